"""A WebSocket to a provider: one connection, one handshake, then a `WebSocket`. It must not trust the peer, nor retry.

Source: RFC 6455, section 4.1. What the provider answers in place of 101 is read to a bounded length and given back, so
that it can be told as any other refusal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

import httptools
import msgspec

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.gateway.deadlines import Sweeper
from ostiary.gateway.duplex import Listener
from ostiary.gateway.upstream.connection import no_answer
from ostiary.gateway.websocket import WebSocket
from ostiary.wire.framing.websocket import WebSocketFramer, accept_of, tokens

HEAD_BYTES = 64 * 1024
REFUSAL_BYTES = 64 * 1024
GOODBYE_SECONDS = 1.0  # for the peer's close, after ours


class Refusal(msgspec.Struct, frozen=True):
    """What a provider answered in place of 101. Header names are lower-case."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class LinkKeeper(Protocol):
    """The upstream client, as a link sees it."""

    def lost(self, connection: Link) -> None:
        """The socket is closed."""
        ...


class Link(asyncio.Protocol):
    """One connection. `ask` sends the handshake; `socket` is there once it was answered with 101.

    Args:
        mask: gives a fresh masking key.
    """

    def __init__(
        self,
        keeper: LinkKeeper,
        sweeper: Sweeper,
        listener: Listener,
        mask: Callable[[], bytes],
        *,
        largest: int,
        silence: float,
    ) -> None:
        self.socket: WebSocket | None = None
        self.deadline = 0.0
        self._keeper = keeper
        self._sweeper = sweeper
        self._listener = listener
        self._mask = mask
        self._framer = WebSocketFramer(masked=False, largest=largest)
        self._silence = silence
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[WebSocket | Refusal] | None = None
        self._accept = b""
        self._head = _Head()
        self._read = 0

    @property
    def usable(self) -> bool:
        """Whether a handshake may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, head: bytes, key: bytes) -> WebSocket | Refusal:
        """Send the handshake with this `Sec-WebSocket-Key` and wait for its answer. Cancelling cuts the connection.

        Raises:
            Fault: CONNECT, TRUNCATED or BAD_ANSWER.
        """
        transport = self._transport
        assert transport is not None
        self._accept = accept_of(key)
        self._answer = self._sweeper.loop.create_future()
        transport.write(head)
        try:
            return await self._answer
        except BaseException:
            transport.abort()
            raise

    def fail(self, fault: Fault) -> None:
        """Cut it, telling whoever waits."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(fault)
        if self._transport is not None:
            self._transport.abort()

    # the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.socket is not None:
            if not self.socket.ended:
                self.socket.feed(data)
            return
        if self._answer is None or self._answer.done():
            self.fail(_bad("bytes that nobody asked for"))
            return
        self._read += len(data)
        try:
            self._take(data)
        except Fault as fault:
            self.fail(fault)

    def eof_received(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._refused()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._sweeper.unregister(self)
        self._transport = None
        if self.socket is not None:
            self.socket.lose()
        elif self._answer is not None and not self._answer.done():
            self._answer.set_exception(_broken_off() if self._read else no_answer())
        self._keeper.lost(self)

    def pause_writing(self) -> None:
        if self.socket is not None:
            self.socket.block()

    def resume_writing(self) -> None:
        if self.socket is not None:
            self.socket.unblock()

    # the sweeper calls

    def expire(self) -> None:
        """The peer did not say good-bye in time."""
        self.deadline = 0.0
        if self._transport is not None:
            self._transport.abort()

    # the handshake

    def _take(self, data: bytes) -> None:
        """Read of the answer.

        Raises:
            Fault: BAD_ANSWER.
        """
        head = self._head
        try:
            head.parser.feed_data(data)
        except httptools.HttpParserUpgrade as switch:
            self._switched(data[switch.args[0] :])
            return
        except httptools.HttpParserError:
            raise _bad("malformed") from None
        if not head.complete and self._read > HEAD_BYTES:
            raise _bad("too long a head")
        if head.ended or len(head.body) > REFUSAL_BYTES:
            self._refused()

    def _switched(self, early: bytes) -> None:
        head, transport, answer = self._head, self._transport, self._answer
        assert transport is not None
        assert answer is not None
        status = head.parser.get_status_code()
        named = dict(head.headers)
        if status != 101 or named.get(b"upgrade", b"").lower() != b"websocket":
            raise _bad("no switch to a WebSocket")
        if b"upgrade" not in tokens(named.get(b"connection", b"").lower()):
            raise _bad("no switch to a WebSocket")
        if [value for name, value in head.headers if name == b"sec-websocket-accept"] != [self._accept]:
            raise _bad("another handshake's answer")
        if b"sec-websocket-extensions" in named or b"sec-websocket-protocol" in named:
            raise _bad("an extension or subprotocol that was not offered")
        transport.pause_reading()  # until the client is there to be told
        self.socket = WebSocket(
            transport,
            self._framer,
            self._listener,
            self._sweeper,
            silence=self._silence,
            early=early,
            hang_up=self._hang_up,
            pause=self._pause,
            mask=self._mask,
        )
        answer.set_result(self.socket)

    def _refused(self) -> None:
        head, answer = self._head, self._answer
        assert answer is not None
        if not head.complete:
            answer.set_exception(_broken_off() if self._read else no_answer())
        else:
            answer.set_result(Refusal(head.parser.get_status_code(), head.headers, bytes(head.body[:REFUSAL_BYTES])))
        if self._transport is not None:
            self._transport.abort()

    def _hang_up(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if not transport.can_write_eof():
            transport.close()
            return
        transport.write_eof()
        transport.resume_reading()
        self.deadline = self._sweeper.loop.time() + GOODBYE_SECONDS
        self._sweeper.register(self)

    def _pause(self, held: bool) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if held:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


class _Head:
    """What llhttp tells of an answer."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.complete = False
        self.ended = False
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.complete and len(self.headers) < 200:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True

    def on_body(self, piece: bytes) -> None:
        if len(self.body) <= REFUSAL_BYTES:
            self.body += piece

    def on_message_complete(self) -> None:
        self.ended = True


def _bad(what: str) -> Fault:
    public = f"The provider's answer to the handshake is not acceptable ({what})."
    return Fault(Kind.BAD_ANSWER, public, origin=Origin.UPSTREAM, retry=Retry.NEXT)


def _broken_off() -> Fault:
    public = "The provider broke off in the middle of the handshake."
    return Fault(Kind.TRUNCATED, public, origin=Origin.UPSTREAM, retry=Retry.NEXT)
