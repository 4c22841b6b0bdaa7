"""Where a connection may go, how it is secured and through whom. It must not be built from a request."""

from __future__ import annotations

import base64
import re
from urllib.parse import unquote, urlsplit

import msgspec

from ostiary.core.snapshot import Deployment

# DNS names as configured (underscores occur inside clusters), IPv4, or IPv6 with neither brackets nor zone
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?|[0-9a-f:.]*:[0-9a-f:.]*", re.ASCII)


class ForwardProxy(msgspec.Struct, frozen=True):
    """Where the proxy listens and the value of `Proxy-Authorization`, empty where it wants none."""

    host: str
    port: int
    authorization: bytes = b""

    def __repr__(self) -> str:
        return f"ForwardProxy({self.host}:{self.port}{', ***' if self.authorization else ''})"


def parse_proxy(url: str) -> ForwardProxy:
    """A proxy from its URL, `http://[user:password@]host[:port]`; the port is 80 unless named.

    Raises:
        ValueError: anything else. The message never repeats the URL, which may hold a password.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme != "http" or not host or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("a forward proxy is named as http://[user:password@]host[:port]")
    _check_authority(host, port or 80)
    if parts.username is None:
        return ForwardProxy(host, port or 80)
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return ForwardProxy(host, port or 80, b"Basic " + base64.b64encode(pair.encode()))


class Origin(msgspec.Struct, frozen=True, cache_hash=True):
    """The key of a pool, compared field by field: a connection made under other terms is never shared.

    `host` is a lower-case name or a literal address without brackets. `proxy` is the URL of a forward proxy and may
    hold a password, so it never shows in `repr`.

    Raises:
        ValueError: a scheme, host, port or proxy that no provider has.
    """

    scheme: str
    host: str
    port: int
    verify: bool = True
    ca_file: str | None = None
    proxy: str | None = None

    def __post_init__(self) -> None:
        if self.scheme not in ("http", "https"):
            raise ValueError("an origin is http or https")
        _check_authority(self.host, self.port)
        if self.proxy is not None:
            parse_proxy(self.proxy)

    @property
    def authority(self) -> str:
        """`host:port`, with brackets where the host is an IPv6 literal."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"Origin({self.scheme}://{self.authority}{' via proxy' if self.proxy else ''})"


def origin_of(deployment: Deployment) -> Origin:
    """The origin that a deployment names. Keep the result: its hash is cached, and equal ones share connections.

    Raises:
        ValueError: as `Origin`.
    """
    return Origin(
        scheme=deployment.scheme,
        host=deployment.host.lower().strip("[]"),
        port=deployment.port,
        verify=deployment.verify,
        ca_file=deployment.ca_file,
        proxy=deployment.proxy,
    )


def _check_authority(host: str, port: int) -> None:
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise ValueError("a host is a lower-case name or a literal address")
    if not 0 < port < 65536:
        raise ValueError("a port is 1 to 65535")
