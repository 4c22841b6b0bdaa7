"""One data-plane request on a connection of the edge: the adapter of `Inbound`. It must not parse or judge requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.gateway.duplex import Handshake, Listener, judge
from ostiary.gateway.edge_rules import CHUNKED, METHODS, RequestHead, check_answer_head
from ostiary.gateway.websocket import WebSocket
from ostiary.wire.framing.websocket import WebSocketFramer, accept_of

if TYPE_CHECKING:
    from ostiary.gateway.edge import EdgeProtocol

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ONE_WRITE = 64 * 1024  # an answer up to this size is joined with its head
BODILESS = frozenset({204, 304})

# How the end of the answer is told.
NOT_BEGUN: Final = 0
CHUNKS: Final = 1
COUNTED: Final = 2
CLOSE: Final = 3  # HTTP/1.0
NO_BODY: Final = 4


class EdgeInbound:
    """See `ports.Inbound`. Until the first byte has gone out, a later `start` or `answer` replaces an earlier `start`.

    `write(b"")` sends a head that is held back. Answers to a client that has gone are dropped.
    """

    __slots__ = (
        "_body",
        "_counted",
        "_edge",
        "_ended",
        "_expect",
        "_fault",
        "_framing",
        "_held",
        "_keep_alive",
        "_left",
        "_length",
        "_limit",
        "_modern",
        "_waiter",
        "_whole",
        "_writers",
        "gone",
        "headers",
        "method",
        "on_blocked",
        "on_writable",
        "path",
        "peer",
        "query",
        "started",
        "task",
        "writable",
    )

    def __init__(self, edge: EdgeProtocol, head: RequestHead) -> None:
        self.method = METHODS[head.method]
        self.path = head.path
        self.query = head.query
        self.headers = head.headers
        self.peer = edge.peer
        self.gone = False
        self.started = False
        self.writable = not edge.flow.write_paused
        self.on_writable: Callable[[], None] | None = None
        self.on_blocked: Callable[[], None] | None = None
        self.task: asyncio.Task[None] | None = None
        self._edge = edge
        self._modern = head.modern
        self._expect = head.expect
        self._length = head.length
        self._whole = head.length == 0
        self._body: bytes | bytearray = b""
        self._counted = 0  # bytes of the body that count towards what is held at once
        self._limit = -1  # nobody has asked for the body yet
        self._fault: Fault | None = None  # why there will be no body
        self._waiter: asyncio.Future[None] | None = None  # of body()
        self._writers: asyncio.Future[None] | None = None  # of drain()
        self._framing = NOT_BEGUN
        self._left = 0  # bytes still owed to a counted answer
        self._held = b""  # the head, held back
        self._keep_alive = False
        self._ended = False

    # --- the request's body ---

    async def body(self, limit: int) -> bytes:
        """The whole request body.

        Raises:
            Fault: TOO_LARGE beyond `limit` bytes, OVERLOADED where too much of other bodies is held, CLIENT_TIMEOUT
                when it does not arrive in time, MALFORMED when its chunks are broken.
        """
        if self._length > limit or len(self._body) > limit:
            raise too_large(limit)
        if self._length > self._edge.limits.unread or self._length == CHUNKED:
            self._count(max(self._length, len(self._body)))
        self._limit = limit
        if self._fault is not None:
            raise self._fault
        if not self._whole:
            edge = self._edge
            if self._expect:  # and nothing has come yet
                self._expect = False
                edge.transport.write(CONTINUE)
            edge.flow.resume_reading()
            self._waiter = edge.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._body = bytes(self._body)
        return self._body

    @property
    def awaits_body(self) -> bool:
        """Whether the exchange is waiting for the body right now."""
        return self._waiter is not None

    def take(self, piece: bytes) -> bool:
        """Keep a piece of the body; True where the connection must stop reading."""
        self._expect = False
        if self._fault is not None:
            return True
        if not self._body:
            self._body = piece
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += piece
        if self._limit < 0:
            return len(self._body) > self._edge.limits.unread
        if len(self._body) > self._limit:
            self.fail_body(too_large(self._limit))
            return True
        if self._length == CHUNKED:
            self._count(len(piece))
        return False

    def _count(self, size: int) -> None:
        """Claim room for bytes of the body, until the exchange is over.

        Raises:
            Fault: OVERLOADED where there is none.
        """
        edge = self._edge
        if edge.edge.bodies + size > edge.limits.bodies_total:
            public = "the gateway holds too many large requests at the moment"
            raise Fault(Kind.OVERLOADED, public, origin=Origin.GATEWAY, retry_after=1.0)
        edge.edge.bodies += size
        self._counted += size

    def finish_body(self) -> None:
        """The body is all here."""
        self._whole = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def fail_body(self, fault: Fault) -> None:
        """There will be no body: `fault` is what the exchange gets in its place."""
        self._fault = fault
        self._body = b""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(fault)

    # --- the answer ---

    def answer(self, status: int, head: bytes, body: bytes) -> None:
        """The whole answer in one write, with Content-Length."""
        if self.gone:
            return
        begun = self._begin(status, head)
        edge = self._edge
        length = b"" if status in BODILESS else b"content-length: %d\r\n" % len(body)
        if status in BODILESS or self.method == "HEAD":
            body = b""
        last = b"\r\n" if self._keep_alive else b"connection: close\r\n\r\n"
        self.started = True
        if len(body) <= ONE_WRITE:
            edge.transport.write(b"%b%b%b%b" % (begun, length, last, body))
        else:
            edge.transport.write(b"%b%b%b" % (begun, length, last))
            edge.transport.write(body)
        self._finish()

    def start(self, status: int, head: bytes, length: int | None = None) -> None:
        """Begin an answer of unknown length (chunked), or of `length` bytes; held back until the first write."""
        if self.gone:
            return
        begun = self._begin(status, head)
        framing = b""
        if status in BODILESS or self.method == "HEAD":
            self._framing = NO_BODY
            if length is not None and status not in BODILESS:
                framing = b"content-length: %d\r\n" % length
        elif length is not None:
            self._framing = COUNTED
            self._left = length
            framing = b"content-length: %d\r\n" % length
        elif self._modern:
            self._framing = CHUNKS
            framing = b"transfer-encoding: chunked\r\n"
        else:
            self._framing = CLOSE
        last = b"\r\n" if self._keep_alive else b"connection: close\r\n\r\n"
        self._held = b"%b%b%b" % (begun, framing, last)

    def write(self, data: bytes) -> None:
        """Send a piece of the answer."""
        if self.gone:
            return
        if self._ended or self._framing == NOT_BEGUN:
            raise RuntimeError("an answer is written between its start and its end")
        if self._framing == CHUNKS:
            if data:
                data = b"%x\r\n%b\r\n" % (len(data), data)
        elif self._framing == COUNTED:
            if len(data) > self._left:
                raise ValueError("the answer is longer than it said")
            self._left -= len(data)
        elif self._framing == NO_BODY:
            data = b""
        self._send(data)

    def end(self) -> None:
        """The normal end of the answer. One that is shorter than it said is cut off instead."""
        if self.gone or self._ended:
            return
        if self._framing == NOT_BEGUN:
            raise RuntimeError("an answer is written between its start and its end")
        if self._left:
            self.abort()
            return
        self._send(b"0\r\n\r\n" if self._framing == CHUNKS else b"")
        self._finish()

    def abort(self) -> None:
        """Cut the connection, so that a half answer cannot be taken for a whole one."""
        if not self._ended and not self.gone:
            self._ended = True
            self._edge.release()
            self._edge.transport.abort()
            self._wake()

    async def drain(self) -> None:
        """Wait until the client takes bytes again."""
        while not (self.writable or self.gone or self._ended):
            if self._writers is None:
                self._writers = self._edge.loop.create_future()
            await asyncio.shield(self._writers)

    def _begin(self, status: int, head: bytes) -> bytes:
        if self.started or self._ended:
            raise RuntimeError("the answer has begun")
        if not 200 <= status <= 599:
            raise ValueError("an answer's status is 200 to 599")
        check_answer_head(head)
        edge = self._edge
        self._left = 0
        self._keep_alive = edge.keeps_alive()
        return b"%b%b%b" % (STATUS_LINE[status], edge.common_lines(), head)

    def _send(self, data: bytes) -> None:
        if self._held:
            data = self._held + data
            self._held = b""
            self.started = True
        if data:
            self._edge.transport.write(data)

    def _finish(self) -> None:
        self._ended = True
        self._wake()
        self._edge.answered(self._keep_alive)

    # --- a WebSocket ---

    def handshake(self) -> Handshake:
        """See `DuplexInbound`."""
        limits = self._edge.limits
        return judge(self.method, self.headers, limits.origins, modern=self._modern, bodiless=not self._length)

    def accept(
        self, handshake: Handshake, head: bytes, listener: Listener, *, largest: int, silence: float
    ) -> WebSocket:
        """See `DuplexInbound`."""
        check_answer_head(head)
        edge = self._edge
        if edge.draining:
            raise Fault(Kind.STOPPING, "the gateway is stopping", origin=Origin.GATEWAY)
        chosen = b"sec-websocket-protocol: %b\r\n" % handshake.subprotocol if handshake.subprotocol else b""
        lines = b"upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: %b\r\n%b%b" % (
            accept_of(handshake.key),
            chosen,
            head,
        )
        self.started = self._ended = True  # what follows is no answer of HTTP
        socket = edge.upgrade(
            lines,
            lambda early: WebSocket(
                edge.transport,
                WebSocketFramer(masked=True, largest=largest),
                listener,
                edge.edge.sweep(edge.loop),
                silence=silence,
                early=early,
                hang_up=edge.end_socket,
                pause=edge.pause,
            ),
        )
        self.on_blocked, self.on_writable = socket.block, socket.unblock
        if not self.writable:
            socket.block()
        return socket

    # --- called by the connection ---

    def block(self) -> None:
        """The client does not take bytes."""
        self.writable = False
        if self.on_blocked is not None:
            self.on_blocked()

    def unblock(self) -> None:
        """The client takes bytes again."""
        self.writable = True
        self._wake()
        if self.on_writable is not None:
            self.on_writable()

    def lose(self) -> None:
        """The client has gone."""
        self.gone = True
        if self.task is not None:
            self.task.cancel()

    def served(self, task: asyncio.Task[None]) -> None:
        """The exchange's task is done. An exchange that left no answer is a bug, or was cancelled by a shutdown."""
        edge = self._edge
        edge.tasks.discard(task)
        edge.edge.bodies -= self._counted
        bug = None if task.cancelled() else task.exception()
        if bug is not None:
            edge.report(bug)
        if self._ended or self.gone:
            return
        if self.started:
            self.abort()
            return
        self._ended = True
        if task.cancelled():
            edge.fail(Fault(Kind.OVERLOADED, "the gateway is shutting down", origin=Origin.GATEWAY))
        else:
            edge.fail(Fault(Kind.INTERNAL, "the gateway failed", origin=Origin.GATEWAY))

    def _wake(self) -> None:
        writers, self._writers = self._writers, None
        if writers is not None:
            writers.set_result(None)


def too_large(limit: int) -> Fault:
    """A request body over its limit."""
    return Fault(Kind.TOO_LARGE, f"the request body is longer than {limit} bytes")
