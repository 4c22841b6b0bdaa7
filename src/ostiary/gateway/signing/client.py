"""One bounded call for credentials, away from the hot path. It must not follow, retry, cache, or show what it carries.

A name is resolved once, its addresses are judged (`reach.py`), and the call goes to one that was: nobody can answer
the check with one address and the connection with another. Trust and route come from arguments alone.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

import msgspec

from ostiary.gateway.signing.reach import Reach, is_loopback, may_reach
from ostiary.gateway.signing.tokens import NoToken
from ostiary.gateway.upstream.tls import client_context

SECONDS = 10.0
MOST_BYTES = 64 * 1024
LATER = 2.0

FORM = "application/x-www-form-urlencoded"


class Answer(NamedTuple):
    """Status and body of an answer, at most 64 KiB."""

    where: str
    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def document(self) -> dict[str, object]:
        """The body as a JSON object; empty when it is none."""
        try:
            return msgspec.json.decode(self.body, type=dict[str, object])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return {}

    def text(self, name: str) -> str:
        """The text under a name; empty when there is none."""
        found = self.document.get(name)
        return found if isinstance(found, str) else ""


class Client:
    """Calls token services.

    Args:
        ca_file: a PEM file that replaces the system's roots.
        proxy: `http://host:port` to tunnel https calls through; the TLS session ends at the service all the same.
        seconds: for a call with all that belongs to it.
    """

    def __init__(self, *, ca_file: str | None = None, proxy: str | None = None, seconds: float = SECONDS) -> None:
        self._ca_file = ca_file
        self._proxy = proxy
        self._seconds = seconds

    async def form(self, url: str, fields: Mapping[str, str], reach: Reach) -> Answer:
        """POST of form fields."""
        return await self.call("POST", url, {"content-type": FORM}, urlencode(fields).encode(), reach)

    async def call(self, method: str, url: str, headers: Mapping[str, str], body: bytes, reach: Reach) -> Answer:
        """One request.

        Raises:
            NoToken: no connection, no trust, no answer in time, an address that is out of reach, a redirect, a
                status of "later", or more than 64 KiB.
        """
        where = urlsplit(url).netloc
        try:
            async with asyncio.timeout(self._seconds):
                answer = await self._ask(method, url, headers, body, reach)
        except TimeoutError:
            raise NoToken(f"{where} gave no answer in {self._seconds:g} s", retry_after=LATER) from None
        if answer.status >= 500 or answer.status in {408, 429}:
            raise NoToken(f"{where} answers {answer.status}", retry_after=LATER)
        return answer

    async def _ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes, reach: Reach) -> Answer:
        import httpx2  # 130 ms, for deployments that need a token only

        parts = urlsplit(url)
        host, where = parts.hostname or "", parts.netloc
        if parts.scheme != "https" and reach is not Reach.MACHINE and not is_loopback(host):
            raise NoToken(f"{where} is not asked in the clear; name it with https://")
        proxy = self._proxy if parts.scheme == "https" else None
        target, more = url, {}
        if proxy is None:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            address = await _address(host, port, reach, where)
            target = parts._replace(netloc=f"[{address}]:{port}" if ":" in address else f"{address}:{port}").geturl()
            more = {"sni_hostname": host}
        try:
            async with (
                httpx2.AsyncClient(
                    verify=self._trust(),
                    proxy=proxy,
                    timeout=self._seconds,
                    trust_env=False,
                    follow_redirects=False,
                ) as client,
                client.stream(
                    method,
                    target,
                    headers={"accept-encoding": "identity", "user-agent": "ostiary", **headers, "host": where},
                    content=body or None,
                    extensions=more,
                ) as reply,
            ):
                if reply.is_redirect:
                    raise NoToken(f"{where} redirects, which is not followed; name the server itself")
                received = bytearray()
                async for chunk in reply.aiter_raw():
                    received += chunk
                    if len(received) > MOST_BYTES:
                        raise NoToken(f"{where} answers with more than {MOST_BYTES} bytes")
                return Answer(where, reply.status_code, bytes(received), dict(reply.headers))
        except httpx2.TimeoutException:
            raise TimeoutError from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise NoToken(f"{where} cannot be used: {_reason(error)}", retry_after=LATER) from None

    def _trust(self) -> ssl.SSLContext:
        try:
            return client_context(verify=True, ca_file=self._ca_file)
        except OSError:
            raise NoToken(f"the CA file {self._ca_file} cannot be used") from None


async def _address(host: str, port: int, reach: Reach, where: str) -> str:
    """An address of the host; all of them must be within reach."""
    try:
        found = [str(ipaddress.ip_address(host))]
    except ValueError:
        try:
            rows = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            raise NoToken(f"the name of {where} has no address", retry_after=LATER) from None
        found = [str(row[4][0]) for row in rows]
    if not found or not all(may_reach(address, reach) for address in found):
        raise NoToken(f"{where} is at an address that is not asked for credentials")
    return next((address for address in found if ":" not in address), found[0])


def _reason(error: BaseException) -> str:
    """Why a call failed, in words of our own."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return "its certificate is not trusted"
        if isinstance(seen, ssl.SSLError):
            return "the TLS handshake failed"
        if isinstance(seen, ConnectionRefusedError):
            return "the connection is refused"
        seen = seen.__cause__ or seen.__context__
    return f"the call failed ({type(error).__name__})"
