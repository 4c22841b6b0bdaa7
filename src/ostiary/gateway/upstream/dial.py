"""From an origin to a ready socket: addresses, TCP, forward proxy, TLS. It must not choose whom to call."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

from ostiary.core.fault import Fault, Kind, Retry
from ostiary.core.fault import Origin as Whose
from ostiary.gateway.upstream.origin import Origin, parse_proxy
from ostiary.gateway.upstream.proxy import open_tunnel
from ostiary.gateway.upstream.tls import client_context

ADDRESS_SECONDS = 30.0  # a name is asked for again after this long
_GOODBYE_SECONDS = 1.0  # how long a closing TLS connection waits for the peer's good-bye

P = TypeVar("P", bound=asyncio.Protocol)
Address: TypeAlias = tuple[socket.AddressFamily, tuple[Any, ...]]
Resolve: TypeAlias = Callable[[str, int], Awaitable[list[Address]]]


class Dialler:
    """Opens connections. Remembers addresses for `ADDRESS_SECONDS` and one TLS context per trust.

    `resolve` stands in for the system's resolver: (host, port) to addresses in order of preference.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, resolve: Resolve | None = None) -> None:
        self._loop = loop
        self._resolve = resolve or self._ask_system
        self._addresses: dict[tuple[str, int], tuple[float, list[Address]]] = {}
        self._contexts: dict[tuple[bool, str | None], ssl.SSLContext] = {}

    async def dial(self, origin: Origin, make: Callable[[], P], deadline: float, *, tunnel: bool = False) -> P:
        """A connection of `make` to `origin`, ready for a request, before loop time `deadline`. Cancellation is clean.

        Args:
            tunnel: have a forward proxy lay a tunnel for plain http too.

        Raises:
            Fault: CONNECT or TIMEOUT. The reason is not in the text: it would tell callers about the inside.
        """
        try:
            async with asyncio.timeout_at(deadline):
                return await self._open(origin, make, deadline, tunnel=tunnel)
        except TimeoutError:
            raise Fault(
                Kind.TIMEOUT,
                "The provider did not accept a connection in time.",
                origin=Whose.UPSTREAM,
                retry=Retry.SAME,
            ) from None
        except ssl.SSLCertVerificationError as error:
            public = "The provider's certificate was not accepted."
            raise Fault(Kind.CONNECT, public, origin=Whose.UPSTREAM, retry=Retry.NEXT) from error
        except (OSError, ValueError) as error:
            public = "No connection to the provider could be made."
            raise Fault(Kind.CONNECT, public, origin=Whose.UPSTREAM, retry=Retry.SAME) from error

    async def _open(self, origin: Origin, make: Callable[[], P], deadline: float, *, tunnel: bool) -> P:
        context = self._context(origin) if origin.scheme == "https" else None
        proxy = parse_proxy(origin.proxy) if origin.proxy is not None else None
        host, port = (origin.host, origin.port) if proxy is None else (proxy.host, proxy.port)
        connected = await self._connect(host, port, deadline)
        try:
            if proxy is not None and (context is not None or tunnel):
                await open_tunnel(self._loop, connected, origin, proxy)
            if context is None:
                return (await self._loop.create_connection(make, sock=connected))[1]
            _, connection = await self._loop.create_connection(
                make,
                sock=connected,
                ssl=context,
                server_hostname=origin.host,
                ssl_handshake_timeout=max(deadline - self._loop.time(), 0.001),
                ssl_shutdown_timeout=_GOODBYE_SECONDS,
            )
        except BaseException:
            connected.close()
            raise
        return connection

    async def _connect(self, host: str, port: int, deadline: float) -> socket.socket:
        """The first address that takes us; each gets an equal share of the time left, for one may be dead."""
        failure: OSError = ConnectionRefusedError("the name has no address")
        addresses = await self._lookup(host, port)
        for position, (family, address) in enumerate(addresses):
            share = (deadline - self._loop.time()) / (len(addresses) - position)
            plug = socket.socket(family, socket.SOCK_STREAM)
            try:
                plug.setblocking(False)
                plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                async with asyncio.timeout(share):
                    await self._loop.sock_connect(plug, address)
            except OSError as error:  # a timeout is one
                plug.close()
                failure = error
            except BaseException:
                plug.close()
                raise
            else:
                return plug
        self._addresses.pop((host, port), None)
        raise failure

    async def _lookup(self, host: str, port: int) -> list[Address]:
        try:
            literal = ipaddress.ip_address(host)
        except ValueError:
            pass
        else:
            return [(socket.AF_INET if literal.version == 4 else socket.AF_INET6, (host, port))]
        known = self._addresses.get((host, port))
        if known is not None and known[0] > self._loop.time():
            return known[1]
        found = await self._resolve(host, port)
        self._addresses[host, port] = (self._loop.time() + ADDRESS_SECONDS, found)
        return found

    async def _ask_system(self, host: str, port: int) -> list[Address]:
        rows = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [(row[0], row[4]) for row in rows]

    def _context(self, origin: Origin) -> ssl.SSLContext:
        key = (origin.verify, origin.ca_file)
        context = self._contexts.get(key)
        if context is None:
            context = self._contexts[key] = client_context(verify=origin.verify, ca_file=origin.ca_file)
        return context

    def forget(self) -> None:
        """Read CA files and ask names anew from the next connection on, as after a reload."""
        self._contexts.clear()
        self._addresses.clear()
