"""The client's side of a WebSocket, as the realtime relay sees it: its handshake, judged, and the port `Duplex`.

It must not touch a connection. Sources: RFC 6455, section 4; the subprotocols by which a browser says what other
clients say in headers are those of OpenAI's Realtime API (`realtime`, `openai-insecure-api-key.…`,
`openai-beta.realtime-v1`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import msgspec

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.gateway.ports import Inbound
from ostiary.wire.framing.websocket import is_key, tokens

SUBPROTOCOL = b"realtime"
_KEY_PREFIX = b"openai-insecure-api-key."
_BETA = b"openai-beta.realtime-v1"
_BETA_HEADER = b"realtime=v1"
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,600}")  # RFC 9110, 5.6.2
_MOST_PROTOCOLS = 16
_ONCE = (b"sec-websocket-key", b"sec-websocket-version", b"upgrade", b"origin")


class Handshake(msgspec.Struct, frozen=True):
    """An accepted request to open a WebSocket.

    Attributes:
        key: the client's `Sec-WebSocket-Key`.
        subprotocol: the one to choose; empty for none.
        carried: the credentials in subprotocols, as header pairs.
        beta: the client asked for the API's first edition.
    """

    key: bytes
    subprotocol: bytes = b""
    carried: tuple[tuple[bytes, bytes], ...] = ()
    beta: bool = False


class Listener(Protocol):
    """Whoever is told what comes over a WebSocket. Calls must not raise."""

    def on_message(self, payload: bytes, *, text: bool) -> None:
        """A whole message; one of text is UTF-8."""
        ...

    def on_end(self, code: int, reason: str) -> None:
        """The peer closed, broke a rule, or is gone (`BROKEN`). Called once, and not for one's own `close`."""
        ...

    def on_blocked(self) -> None:
        """The peer does not take bytes."""
        ...

    def on_writable(self) -> None:
        """The peer takes bytes again."""
        ...

    def on_stopping(self) -> None:
        """The gateway is stopping: end soon."""
        ...


class Duplex(Protocol):
    """One end of an open WebSocket. What is written after its end is dropped."""

    writable: bool

    def begin(self) -> None:
        """Read from here on."""
        ...

    def send(self, payload: bytes) -> None:
        """Send a message of text."""
        ...

    def hold(self) -> None:
        """Stop reading."""
        ...

    def unhold(self) -> None:
        """Read on."""
        ...

    def close(self, code: int, reason: str) -> None:
        """End it with this code. A second call does nothing."""
        ...


@runtime_checkable
class DuplexInbound(Inbound, Protocol):
    """A request that may become a WebSocket."""

    def handshake(self) -> Handshake:
        """The request's handshake, by the rules of the adapter.

        Raises:
            Fault: it is none, or its origin is not let in.
        """
        ...

    def accept(self, handshake: Handshake, head: bytes, listener: Listener, *, largest: int, silence: float) -> Duplex:
        """Answer 101 and hand the connection over; `begin` is to be called when the listener is ready.

        Args:
            head: header lines, each ending in CRLF.
            largest: bytes of a message.
            silence: seconds after which the client is pinged; after as many again it counts as gone.

        Raises:
            Fault: STOPPING.
        """
        ...


def judge(
    method: str, headers: Iterable[tuple[bytes, bytes]], origins: frozenset[str], *, modern: bool, bodiless: bool
) -> Handshake:
    """The handshake of a request.

    Args:
        headers: lower-case names.
        origins: of browsers that are let in, lower-case, as in `https://chat.example`. A request without `Origin` is
            not a browser's.
        modern: HTTP/1.1.
        bodiless: no body is announced.

    Raises:
        Fault: MALFORMED with status 400 or 426, ROUTE_DENIED for a foreign origin.
    """
    found: dict[bytes, bytes] = {}
    offered: list[bytes] = []
    connection: list[bytes] = []
    beta = False
    for name, value in headers:
        if name in _ONCE:
            if name in found:
                raise _no_handshake(f"the header {name.decode()} stands twice")
            found[name] = value
        elif name == b"sec-websocket-protocol":
            offered += tokens(value)
        elif name == b"connection":
            connection += tokens(value.lower())
        elif name == b"openai-beta":
            beta = beta or _BETA_HEADER in tokens(value)
    if (
        method != "GET"
        or not modern
        or b"upgrade" not in connection
        or found.get(b"upgrade", b"").lower() != b"websocket"
    ):
        raise _no_handshake("this path is served over a WebSocket only", 426)
    if not bodiless:
        raise _no_handshake("a request for a WebSocket has no body")
    if found.get(b"sec-websocket-version") != b"13":
        raise _no_handshake("only version 13 of the WebSocket protocol is served", 426)
    key = found.get(b"sec-websocket-key", b"")
    if not is_key(key):
        raise _no_handshake("the Sec-WebSocket-Key is not 16 bytes of base64")
    _check_origin(found.get(b"origin"), origins)
    _check_protocols(offered)
    carried = tuple((b"authorization", each[len(_KEY_PREFIX) :]) for each in offered if each.startswith(_KEY_PREFIX))
    return Handshake(key, SUBPROTOCOL if SUBPROTOCOL in offered else b"", carried, beta or _BETA in offered)


def _check_protocols(offered: list[bytes]) -> None:
    if len(offered) > _MOST_PROTOCOLS or len(set(offered)) != len(offered):
        raise _no_handshake("the subprotocols are too many, or one stands twice")
    if not all(map(_TOKEN.fullmatch, offered)):
        raise _no_handshake("a subprotocol is malformed")
    if any(each == _KEY_PREFIX for each in offered):
        raise _no_handshake("a subprotocol announces a key and holds none")
    if offered and SUBPROTOCOL not in offered:
        raise _no_handshake("of the subprotocols, `realtime` is the one that is spoken")


def _check_origin(value: bytes | None, origins: frozenset[str]) -> None:
    """Browsers let any page open a WebSocket anywhere; only the pages of named origins may."""
    if value is None:
        return
    if value.decode("latin-1").lower() not in origins:
        public = "this origin is not let in; `ostiary.edge.allowed_origins` can name it"
        raise Fault(Kind.ROUTE_DENIED, public, origin=Origin.POLICY)


def _no_handshake(public: str, status: int = 400) -> Fault:
    return Fault(Kind.MALFORMED, public, status=status)


def refusal_lines(fault: Fault) -> bytes:
    """Header lines that belong to a refused handshake (RFC 9110, 15.5.22; RFC 6455, 4.2.2)."""
    return b"upgrade: websocket\r\nsec-websocket-version: 13\r\n" if fault.status == 426 else b""
