"""One socket to a provider, speaking HTTP/1.1 one exchange at a time. It must not trust the peer, nor retry anything.

The state machine, in full:

    IDLE --begin()--> HEAD --head complete--> BODY --body complete--> IDLE (reusable) or CLOSED
      any state --end of file, error, deadline, abort()--> CLOSED, once

llhttp does the grammar and, in its strict mode, refuses ambiguous framing: two lengths, a length beside a transfer
coding, bare line feeds, folded lines. What it leaves to us is here: the size of the head, the number of headers,
interim answers, protocol switches, transfer and content codings that nobody asked for, framing without content, and
bytes after the end. (A stray CRLF directly after an answer is skipped by llhttp; it says nothing and is dropped with
its packet.) Requests are never HEAD or CONNECT, so that a length in the head always announces a body.

Callbacks of the parser run inside `feed_data`; they only take notes. What a packet means to others is told once, after
it has been parsed to its end: at most one `on_data`, then at most one end.
"""

from __future__ import annotations

import asyncio
from enum import IntEnum
from typing import Protocol, cast

import httptools

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.core.snapshot import Timeouts
from ostiary.gateway.upstream.response import Response

HEAD_BYTES = 64 * 1024
HEADERS = 200
INTERIM_ANSWERS = 8
BARREN_BYTES = 64 * 1024  # chunk extensions and trailers in a row without a byte of content
JOIN_BYTES = 64 * 1024  # up to here, one write of head and body is cheaper than two

_WATCHED = frozenset({b"transfer-encoding", b"content-length", b"content-encoding", b"keep-alive"})


class State(IntEnum):
    """See the essay above."""

    IDLE = 0
    HEAD = 1
    BODY = 2
    CLOSED = 3


# as globals: the hot path compares by identity
IDLE, HEAD, BODY, CLOSED = State.IDLE, State.HEAD, State.BODY, State.CLOSED


class Keeper(Protocol):
    """The pool, as a connection sees it."""

    def release(self, connection: Connection, seconds: float | None) -> None:
        """The exchange is over and the connection is reusable, by the peer's word for `seconds` more."""
        ...

    def forget(self, connection: Connection) -> None:
        """The connection is of no further use; its socket is closing."""
        ...

    def lost(self, connection: Connection) -> None:
        """The socket is closed."""
        ...


class Connection(asyncio.Protocol):
    """One socket. `deadline` and `expire` are for the sweeper; `pristine` tells that it has not served before."""

    __slots__ = (
        "_asides",
        "_barren",
        "_ended",
        "_ends",
        "_framed",
        "_head_bytes",
        "_headers",
        "_heard",
        "_held",
        "_interim",
        "_keep_seconds",
        "_keeper",
        "_now",
        "_parser",
        "_pieces",
        "_promise",
        "_response",
        "_reusable",
        "_state",
        "_timeouts",
        "_transport",
        "_unsent",
        "_waiter",
        "deadline",
        "on_body",
        "pristine",
    )

    def __init__(self, keeper: Keeper, loop: asyncio.AbstractEventLoop) -> None:
        self.deadline = 0.0
        self.pristine = True
        self._keeper = keeper
        self._now = loop.time
        self._promise = loop.create_future
        self._state = IDLE
        self._transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append  # called by the parser without a frame of Python between
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Response] | None = None
        self._response: Response | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._timeouts = Timeouts()
        self._ends = self._heard = 0.0
        self._unsent = self._head_bytes = self._barren = 0
        self._asides = 0  # interim answers before the head, trailers after it
        self._interim = self._ended = self._framed = self._held = self._reusable = False
        self._keep_seconds: float | None = None

    # one exchange

    @property
    def usable(self) -> bool:
        """Whether a request may begin."""
        return self._state is IDLE and self._transport is not None and not self._transport.is_closing()

    def begin(self, head: bytes, body: bytes, timeouts: Timeouts, ends: float) -> asyncio.Future[Response]:
        """Write one request. The future gives the answer as soon as its head is complete.

        Args:
            head: the request's head including the empty line.
            body: all of the body.
            timeouts: in seconds; `connect` and `total` are not looked at.
            ends: loop time at which the exchange must be over.
        """
        transport = self._transport
        assert transport is not None
        self._state = HEAD
        self._waiter = waiter = self._promise()
        self._headers = []
        self._head_bytes = self._barren = self._asides = self._unsent = 0
        self._interim = self._ended = self._framed = self._reusable = False
        self._keep_seconds = None
        self._timeouts, self._ends = timeouts, ends
        self._heard = now = self._now()
        self.deadline = min(now + timeouts.first_byte, ends)
        if len(body) <= JOIN_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        return waiter

    def give_up(self, waiter: asyncio.Future[Response]) -> None:
        """Whoever awaited `waiter` is gone. Closes the connection at once, unless it already serves another."""
        if self._waiter is waiter:
            self.abort()
        elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            waiter.result().abort()

    def abort(self) -> None:
        """Close at once, telling nobody."""
        if self._state is not CLOSED:
            self._close()

    def fail(self, fault: Fault) -> None:
        """Close at once, telling whoever awaits the answer or reads it."""
        waiter, response = self._waiter, self._response
        self._close()
        if waiter is not None and not waiter.done():
            waiter.set_exception(fault)
        elif response is not None:
            response.fail(fault)

    def retire(self) -> None:
        """Close an idle connection in good order."""
        if self._state is IDLE:
            self._state = CLOSED
            self.deadline = 0.0
            self._keeper.forget(self)
            if self._transport is not None:
                self._transport.close()

    def hold(self) -> None:
        """Stop reading."""
        if self._transport is not None and self._state is BODY and not self._held:
            self._held = True
            self._transport.pause_reading()

    def unhold(self) -> None:
        """Read on."""
        if self._transport is not None and self._state is BODY and self._held:
            self._held = False
            self._heard = self._now()
            self.deadline = min(self._heard + self._timeouts.idle, self._ends)
            self._transport.resume_reading()

    # the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._state is BODY:
            self._heard = self._now()
        elif self._state is HEAD:
            self._head_bytes += len(data)
        else:
            self.abort()  # bytes that nobody asked for
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self._ended:
                self.fail(error.__context__ if isinstance(error.__context__, Fault) else _bad("malformed"))
                return
            self._reusable = False  # the answer is whole, but something follows it
        response = self._response
        if response is None:
            if self._head_bytes > HEAD_BYTES:
                self.fail(_bad("too long a head"))
            return
        pieces = self._pieces
        if pieces:
            self._barren = 0
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            if response.sink is not None:
                response.sink.on_data(piece)
            else:
                response.keep(piece)
            if self._state is CLOSED:
                return
        elif not self._ended:
            self._barren += len(data)
            if self._barren > BARREN_BYTES:
                self.fail(_bad("framing without content"))
                return
        if self._ended:
            self._finish(response)

    def eof_received(self) -> None:
        self._broke_off(clean=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._broke_off(clean=exc is None)
        self._transport = None
        del self._parser  # it holds our methods: without this, only the cycle collector would free the two
        self._keeper.lost(self)

    def pause_writing(self) -> None:
        """The peer takes the request more slowly than we write it: the idle deadline watches progress."""
        if self._transport is not None and self._state is HEAD:
            self._unsent = self._transport.get_write_buffer_size()
            self.deadline = min(self._now() + self._timeouts.idle, self._ends)

    def resume_writing(self) -> None:
        """All but the last kilobytes are sent: now the first byte is awaited."""
        if self._state is HEAD:
            self._unsent = 0
            self._heard = self._now()
            self.deadline = min(self._heard + self._timeouts.first_byte, self._ends)

    # the sweeper calls

    def expire(self) -> None:
        """The deadline as last written has passed; data since then may have moved the true one."""
        now = self._now()
        if self._state is IDLE:
            self.retire()
        elif now >= self._ends:
            self.fail(_late("The provider did not finish its answer in time.", before_head=self._state is HEAD))
        elif self._state is BODY:
            limit = self._heard + self._timeouts.idle
            if self._held:
                self.deadline = self._ends
            elif limit > now:
                self.deadline = min(limit, self._ends)
            else:
                self.fail(_late("The provider fell silent in the middle of its answer.", before_head=False))
        elif self._state is HEAD:
            left = self._transport.get_write_buffer_size() if self._transport is not None and self._unsent else 0
            if left < self._unsent:
                self._unsent = left
                self.deadline = min(now + self._timeouts.idle, self._ends)
            else:
                self.fail(_late("The provider did not begin its answer in time.", before_head=True))

    # the parser calls

    def on_message_begin(self) -> None:
        if self._ended:
            raise _bad("more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._state is not HEAD:  # a trailer: counted, not kept
            self._asides += 1
            if self._asides > HEADERS:
                raise _bad("too many trailers")
            return
        name = name.lower()
        self._headers.append((name, value))
        if name in _WATCHED:
            self._watch(name, value)

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        headers = self._headers
        if len(headers) > HEADERS:
            raise _bad("too many headers")
        if self._head_bytes > HEAD_BYTES and sum(len(name) + len(value) + 4 for name, value in headers) > HEAD_BYTES:
            raise _bad("too long a head")
        if status < 200:
            self._asides += 1
            if status < 100 or status == 101 or self._asides > INTERIM_ANSWERS:
                raise _bad("not a final status")
            self._interim = True
            self._framed = False
            self._headers = []
            return
        if status > 599 or self._parser.get_http_version() not in ("1.1", "1.0"):
            raise _bad("not an answer of HTTP/1.1")
        waiter, self._waiter = self._waiter, None
        assert waiter is not None
        self._response = response = Response(self, status, headers, close_delimited=not self._framed)
        self._state = BODY
        self._asides = 0
        self._heard = now = self._now()
        self.deadline = min(now + self._timeouts.idle, self._ends)
        if waiter.done():  # cancelled a moment ago
            raise _bad("unwanted")
        waiter.set_result(response)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
            return
        self._ended = True
        if not self._framed and self._response is not None:
            self._response.close_delimited = False  # a status that has no body
        self._reusable = self._parser.should_keep_alive()

    def _watch(self, name: bytes, value: bytes) -> None:
        value = value.strip().lower()
        if name == b"content-length":
            self._framed = True
        elif name == b"transfer-encoding":
            if value != b"chunked" or self._framed:
                raise _bad("an unknown transfer coding")
            self._framed = True
        elif name == b"content-encoding":
            if value not in (b"", b"identity"):
                raise _bad("a content coding that was not asked for")
        else:
            _, found, rest = value.partition(b"timeout=")
            digits = rest.partition(b",")[0].strip()
            if found and digits.isdigit() and len(digits) < 9:
                self._keep_seconds = float(digits)

    # ends

    def _finish(self, response: Response) -> None:
        self._response = None
        if self._held:
            self._held = False
            if self._transport is not None and self._reusable:
                self._transport.resume_reading()
        transport = self._transport
        if self._reusable and transport is not None and (not self._unsent or not transport.get_write_buffer_size()):
            self._state = IDLE
            self.pristine = False
            self._keeper.release(self, self._keep_seconds)
        else:
            self._close(gently=not self._unsent)
        response.finish()

    def _broke_off(self, *, clean: bool) -> None:
        response = self._response
        if self._state is BODY and clean and not self._framed and response is not None:
            self._reusable = False
            self._finish(response)
        elif self._state is BODY:
            self.fail(_truncated())
        elif self._state is HEAD:
            self.fail(_truncated() if self._head_bytes else no_answer())
        else:
            self.abort()

    def _close(self, *, gently: bool = False) -> None:
        self._state = CLOSED
        self.deadline = 0.0
        self._waiter = None
        self._response = None
        self._pieces.clear()
        if self._transport is not None:
            if gently:
                self._transport.close()
            else:
                self._transport.abort()
        self._keeper.forget(self)


def _bad(what: str) -> Fault:
    public = f"The provider's answer is not acceptable HTTP ({what})."
    return Fault(Kind.BAD_ANSWER, public, origin=Origin.UPSTREAM, retry=Retry.NEXT)


def _truncated() -> Fault:
    public = "The provider broke off in the middle of its answer."
    return Fault(Kind.TRUNCATED, public, origin=Origin.UPSTREAM, retry=Retry.NEXT)


def _late(public: str, *, before_head: bool) -> Fault:
    retry = Retry.SAME if before_head else Retry.NEXT
    return Fault(Kind.TIMEOUT, public, origin=Origin.UPSTREAM, retry=retry)


def no_answer() -> Fault:
    """The connection ended without a byte of an answer."""
    public = "The provider closed the connection without an answer."
    return Fault(Kind.CONNECT, public, origin=Origin.UPSTREAM, retry=Retry.SAME)
