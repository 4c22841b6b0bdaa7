"""Forward proxies, where the configuration names one. It must not look at the environment by itself."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Mapping

from ostiary.gateway.upstream.origin import ForwardProxy, Origin

_ANSWER_BYTES = 16 * 1024
_ESTABLISHED = re.compile(rb"HTTP/1\.[01] 2[0-9][0-9]( |\r\n)")

# Variables by which other programs redirect traffic or trust; egress ignores them all unless the operator asks.
REDIRECTING_VARIABLES = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "SSLKEYLOGFILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
)


def ignored_variables(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Names of variables that are set and that egress ignores; start-up notes them."""
    return tuple(name for name in REDIRECTING_VARIABLES if environ.get(name) or environ.get(name.lower()))


def absolute_form(head: bytes, origin: Origin, proxy: ForwardProxy) -> bytes:
    """A request's head as a proxy takes it for plain http: absolute target, and our credential for the proxy."""
    method, target, rest = head.split(b" ", 2)
    version, lines = rest.split(b"\r\n", 1)
    credential = _authorization_line(proxy)
    return b"%s http://%s%s %s\r\n%s%s" % (method, origin.authority.encode(), target, version, credential, lines)


async def open_tunnel(
    loop: asyncio.AbstractEventLoop, connected: socket.socket, origin: Origin, proxy: ForwardProxy
) -> None:
    """Ask the proxy on a connected socket for a tunnel to `origin`; returns when TLS may begin.

    Raises:
        OSError: the proxy refused, broke off, or answered nonsense.
    """
    target = origin.authority.encode()
    ask = b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (target, target, _authorization_line(proxy))
    await loop.sock_sendall(connected, ask)
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = await loop.sock_recv(connected, 4096)
        answer += piece
        if not piece or len(answer) > _ANSWER_BYTES:
            raise ConnectionRefusedError("the forward proxy gave no answer")
    # a proxy has nothing to say between its answer and our first record
    if not _ESTABLISHED.match(answer) or not answer.endswith(b"\r\n\r\n"):
        raise ConnectionRefusedError("the forward proxy refused")


def _authorization_line(proxy: ForwardProxy) -> bytes:
    return b"Proxy-Authorization: %s\r\n" % proxy.authorization if proxy.authorization else b""
