"""uvicorn's server with our start and stop: says where it listens, drains, then closes what `bootstrap` opened.

It must not know what it serves.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
from collections.abc import Awaitable, Callable

import uvicorn

YOUNG_OBJECTS = 10_000  # allocations between two looks for cycles


def spare_the_collector() -> None:
    """Keep the collector of cyclic garbage out of the requests' way.

    What was imported lives as long as the process: a full collection that looks at it stops the loop for tens of
    milliseconds. A request leaves no cycles (reference counts free all of it), so looking for them is rarely worth it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 50)


class ListenError(Exception):
    """The address cannot be listened on; the text is one line for the operator."""


def listen_on(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on every address of `host`: nobody else can take the port from here on.

    Whoever connects waits until the server accepts.

    Raises:
        ListenError: with one line that names port and host.
    """
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listener = socket.socket(family, kind, protocol)
            bound.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen()
    except OSError as error:
        for listener in bound:
            listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ListenError(f"port {port} on {host} is in use") from None
        raise ListenError(f"port {port} on {host} cannot be listened on: {error.strerror}") from None
    return bound


class Server(uvicorn.Server):
    """One listener.

    Args:
        ready: called with the base URL once connections are accepted.
        stopping: called at the first sign of the end, before connections are drained.
        closed: awaited after all exchanges have ended or were cut.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        ready: Callable[[str], None],
        stopping: Callable[[], None],
        closed: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._stopping = stopping
        self._closed = closed

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            spare_the_collector()
            self._ready(f"http://{shown}:{port}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`. Streams go on for the drain time; then what is left is cut, and settled."""
        self._stopping()
        await super().shutdown(sockets)
        if self.server_state.tasks:  # cut by the drain deadline: let them settle
            await asyncio.wait(self.server_state.tasks, timeout=2.0)
        await self._closed()
