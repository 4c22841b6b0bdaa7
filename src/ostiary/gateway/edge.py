"""The HTTP/1.1 protocol class: reads requests strictly and in time, hands each to the door or to the ASGI application.

It must not decide anything about a request beyond its being HTTP: who may do what is the exchange's business.

One connection is in one phase at a time. HEAD: collecting a request head. BODY: its exchange runs, its body arrives.
BUSY: its exchange runs, its body is here; what the client sends now waits, unparsed and bounded. CLOSING: nothing is
read any more but to be thrown away. UPGRADED: it is a WebSocket, and no HTTP any more. The next head is judged only
when the answer before it has ended, so answers are in order without a queue. Reading goes on while an exchange runs, so
that a client's leaving is seen at once; it pauses only where a client sends body bytes that nobody asked for yet, and
then the body's deadline bounds the pause.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.gateway.deadlines import Sweeper
from ostiary.gateway.edge_inbound import EdgeInbound, too_large
from ostiary.gateway.edge_rules import (
    CHUNKED,
    LONGEST_SEEN,
    METHODS,
    Chunks,
    EdgeLimits,
    RequestHead,
    SeenHead,
    read_head,
    refused,
    source_of,
)
from ostiary.gateway.ports import Door, Route, WrongMethod
from ostiary.gateway.websocket import WebSocket
from ostiary.observe.log import failure, log
from ostiary.wire.dialects.openai_chat.faults import encode_fault
from ostiary.wire.framing.websocket import TRY_LATER

HEAD: Final = 0
BODY: Final = 1
BUSY: Final = 2
CLOSING: Final = 3
UPGRADED: Final = 4


class EdgeState:
    """What the connections of one edge share."""

    __slots__ = ("_lines_from", "bodies", "door", "limits", "lines", "sources", "sweeper")

    def __init__(self, door: Door, limits: EdgeLimits, sweeper: Sweeper | None) -> None:
        self.door = door
        self.limits = limits
        self.sweeper = sweeper
        self.bodies = 0  # bytes of the large request bodies that are held
        self.sources: Counter[str] = Counter()  # source -> connections
        self.lines = b""  # the header lines of every answer: date, and what uvicorn was configured to add
        self._lines_from: list[tuple[bytes, bytes]] | None = None

    def common_lines(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """`headers` as bytes. uvicorn makes a new list each second; only then are they joined again."""
        if headers is not self._lines_from:
            self._lines_from = headers
            self.lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        return self.lines

    def sweep(self, loop: asyncio.AbstractEventLoop) -> Sweeper:
        """The shared sweeper, made with the first connection where none was given."""
        if self.sweeper is None:
            self.sweeper = Sweeper(loop)
        return self.sweeper


def edge_protocol(door: Door, limits: EdgeLimits, sweeper: Sweeper | None = None) -> type[HttpToolsProtocol]:
    """The protocol class to give to `uvicorn.Config(http=…)`; what its connections share lives as long as it does."""
    state = EdgeState(door, limits, sweeper)

    class Edge(EdgeProtocol):
        edge = state

    return Edge


class EdgeProtocol(HttpToolsProtocol):
    """One connection. `deadline` and `expire` are for the sweeper."""

    edge: EdgeState

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.parser = None  # type: ignore[assignment]  # heads are judged by `read_head`
        self.limits = self.edge.limits
        self.deadline = 0.0
        self.peer = ""
        self.draining = False
        self._phase = HEAD
        self._rest = b""  # bytes received and not yet looked at
        self._inbound: EdgeInbound | None = None  # the running data-plane exchange
        self._length = 0  # body bytes still to come
        self._chunks: Chunks | None = None
        self._seen: SeenHead | None = None
        self._body_since = 0.0
        self._app_received = 0
        self._keep_alive = True
        self._discarded = 0
        self._source = ""
        self._socket: WebSocket | None = None
        self._socket_held = 0  # of its bytes, those that count as those of large bodies do

    # --- the connection ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        edge, limits = self.edge, self.limits
        self.deadline = self.loop.time() + limits.head_seconds
        edge.sweep(self.loop).register(self)
        if self.client is not None:
            self.peer, self._source = source_of(self.client[0])
            edge.sources[self._source] += 1
        if len(self.connections) > limits.connections or edge.sources[self._source] > limits.connections_per_source:
            self._refuse(Fault(Kind.OVERLOADED, "too many connections", origin=Origin.GATEWAY, retry_after=1.0))

    def connection_lost(self, exc: Exception | None) -> None:
        edge = self.edge
        edge.sweep(self.loop).unregister(self)
        if self._source:
            edge.sources[self._source] -= 1
            if not edge.sources[self._source]:
                del edge.sources[self._source]
        self._phase = CLOSING
        self._rest = b""
        self.deadline = 0.0
        inbound, self._inbound = self._inbound, None
        if self._socket is not None:
            self._lose_socket(self._socket)
        elif inbound is not None:
            inbound.lose()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close if idle; else let the running answer finish and say `connection: close` if that can still be said."""
        self.draining = True
        if self._phase == HEAD:
            self._close(unread=bool(self._rest))
        elif self._socket is not None:
            self._socket.stop()
        elif self._phase != CLOSING and self._inbound is None:
            self.cycle.keep_alive = False

    def pause_writing(self) -> None:
        self.flow.pause_writing()
        if self._inbound is not None:
            self._inbound.block()

    def resume_writing(self) -> None:
        self.flow.resume_writing()
        if self._inbound is not None:
            self._inbound.unblock()

    def expire(self) -> None:
        """The deadline has passed: of the head, of the body, of an idle connection or of a closing one."""
        self.deadline = 0.0
        if self._phase == BODY:
            self._expire_body()
        elif self._phase == HEAD and self._rest:
            self._refuse(Fault(Kind.CLIENT_TIMEOUT, "the request head did not arrive in time"))
        elif self._phase == HEAD and not self.transport.get_write_buffer_size():
            self._close(unread=False)
        else:
            self.transport.abort()

    def _expire_body(self) -> None:
        late = Fault(Kind.CLIENT_TIMEOUT, "the request body did not arrive in time")
        if self._inbound is None and not self.cycle.response_started:
            self._drop_cycle()
            self._refuse(late)
        elif self._inbound is not None and self._inbound.awaits_body:
            self._inbound.fail_body(late)
        else:
            self.transport.abort()

    # --- reading ---

    def data_received(self, data: bytes) -> None:
        phase = self._phase
        if phase == HEAD:
            self._take_head(data)
        elif phase == BODY:
            try:
                self._take_body(data)
            except Fault as fault:
                self._break_body(fault)
        elif phase == BUSY:
            self._rest += data
            if len(self._rest) > self.limits.pipelined:
                self.transport.abort()
        elif phase == UPGRADED:
            self._take_frames(data)
        else:
            self._discarded += len(data)
            if self._discarded > self.limits.unread:
                self.flow.pause_reading()

    def _take_head(self, data: bytes) -> None:
        held = len(self._rest)
        if held:
            data = self._rest + data
        end = data.find(b"\r\n\r\n", max(held - 3, 0))
        if end < 0:
            self._await_head(data, held)
            return
        end += 4
        try:
            if end > self.limits.head:
                raise refused(f"the request head is longer than {self.limits.head} bytes", 431)
            head, route = self._read_head(data[:end])
        except Fault as fault:
            self._refuse(fault)
            return
        self._rest = b""
        self._begin(head, route, data[end:] if end < len(data) else b"")

    def _read_head(self, block: bytes) -> tuple[RequestHead, Route | None]:
        """The judged head and its route.

        Raises:
            Fault: the refusal.
        """
        seen = self._seen
        if seen is not None:
            head = seen.match(block)
            if head is not None:
                return head, seen.route
        head = read_head(block, self.limits)
        route = self.edge.door.route(head.method, head.path)
        if route is None:
            self._check_for_app(head)
        elif len(block) <= LONGEST_SEEN:
            self._seen = SeenHead(block, head, route)
        return head, route

    def _await_head(self, data: bytes, held: int) -> None:
        """Keep an incomplete head, unless it can already be seen that it will be refused."""
        limits = self.limits
        if not held:
            self.deadline = self.loop.time() + limits.head_seconds
        if len(data) >= limits.head:
            self._refuse(refused(f"the request head is longer than {limits.head} bytes", 431))
        elif not 65 <= data[0] <= 90 or data.count(b"\n") != data.count(b"\r\n"):
            self._refuse(refused("the request head is malformed"))
        elif len(data) > limits.target + 20 and data.find(b"\r\n", 0, limits.target + 20) < 0:
            self._refuse(refused(f"the request target is longer than {limits.target} bytes", 414))
        else:
            self._rest = data

    def _begin(self, head: RequestHead, route: Route | None, rest: bytes) -> None:
        """Start the exchange of an accepted head, then take what has come of its body."""
        self._keep_alive = head.keep_alive
        self._length = head.length
        if route is None:
            self._serve_app(head)
        else:
            inbound = self._inbound = EdgeInbound(self, head)
            task = self.loop.create_task(self.edge.door.serve(inbound, route))
            inbound.task = task
            self.tasks.add(task)
            task.add_done_callback(inbound.served)
        if not head.length:
            self._phase = BUSY
            self._complete(rest)
            return
        self._phase = BODY
        self._chunks = Chunks() if head.length == CHUNKED else None
        self._body_since = self.loop.time()
        self._set_body_deadline(max(head.length, 0))
        if rest:
            self.data_received(rest)

    def _take_body(self, data: bytes) -> None:
        chunks = self._chunks
        if chunks is not None:
            piece = chunks.feed(data)
            self._deliver(piece)
            if chunks.done:
                self._complete(chunks.rest)
            else:
                self._set_body_deadline(chunks.size)
            return
        left = self._length - len(data)
        if left > 0:
            self._length = left
            self._deliver(data)
        elif left == 0:
            self._deliver(data)
            self._complete(b"")
        else:
            self._deliver(data[: self._length])
            self._complete(data[self._length :])

    def _deliver(self, piece: bytes) -> None:
        """Pass on a piece of the body."""
        if not piece:
            return
        if self._inbound is not None:
            if self._inbound.take(piece):
                self.flow.pause_reading()
            return
        cycle = self.cycle
        self._app_received += len(piece)
        if self._app_received > self.limits.app_body:
            raise too_large(self.limits.app_body)
        cycle.waiting_for_100_continue = False
        cycle.body += piece
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def _complete(self, rest: bytes) -> None:
        """The body is here."""
        if self._phase == CLOSING:
            return
        self._phase = BUSY
        self._chunks = None
        self.deadline = 0.0
        self.flow.resume_reading()
        if self._inbound is not None:
            self._inbound.finish_body()
        else:
            self.cycle.more_body = False
            self.cycle.message_event.set()
        if rest:
            self.data_received(rest)

    def _break_body(self, fault: Fault) -> None:
        """The body breaks a rule: its framing cannot be trusted any more, so the connection ends with this answer."""
        self.flow.pause_reading()
        if self._inbound is not None:
            self._inbound.fail_body(fault)
        elif self.cycle.response_started:
            self.transport.abort()
        else:
            self._drop_cycle()
            self._refuse(fault)

    def _set_body_deadline(self, size: int) -> None:
        self.deadline = self._body_since + self.limits.body_seconds + size / self.limits.body_rate

    # --- answering ---

    def common_lines(self) -> bytes:
        """The header lines that every answer carries."""
        return self.edge.common_lines(self.server_state.default_headers)

    def keeps_alive(self) -> bool:
        """Whether the connection can serve another request after the answer that starts now."""
        return self._keep_alive and self._phase == BUSY and not self.draining

    def answered(self, keep_alive: bool) -> None:
        """The running answer has ended: take the next request or close."""
        self.server_state.total_requests += 1
        self._inbound = None
        if self._phase == CLOSING:
            return
        if not keep_alive or self._phase != BUSY or self.draining:
            self._close(unread=self._phase == BODY)
            return
        self._phase = HEAD
        self.deadline = self.loop.time() + self.limits.idle_seconds
        rest, self._rest = self._rest, b""
        if rest:
            self._take_head(rest)

    def fail(self, fault: Fault) -> None:
        """The exchange ended without an answer."""
        if self._phase != CLOSING:
            self._inbound = None
            self._refuse(fault)

    def report(self, bug: BaseException) -> None:
        """Log an exception that should not be. Its text is left out: it may hold content."""
        log().error("an exchange failed: a bug of ours", **failure(bug))

    def release(self) -> None:
        """The exchange cut the connection: its task is not to be cancelled for that."""
        self._inbound = None
        self._phase = CLOSING

    # --- a WebSocket ---

    def upgrade(self, lines: bytes, make: Callable[[bytes], WebSocket]) -> WebSocket:
        """Answer 101 with these header lines and be a WebSocket from here on. `make` is given what has come of it."""
        self.server_state.total_requests += 1
        rest, self._rest = self._rest, b""
        self._socket = socket = make(rest)
        self._phase = UPGRADED
        self.deadline = 0.0
        self.transport.write(b"%b%b%b\r\n" % (STATUS_LINE[101], self.common_lines(), lines))
        return socket

    def end_socket(self) -> None:
        """The close frame is written: end the connection, and read on a moment so that it arrives."""
        self._count_socket(0)
        self._close(unread=True)

    def pause(self, held: bool) -> None:
        """Stop reading, or go on."""
        if held:
            self.flow.pause_reading()
        else:
            self.flow.resume_reading()

    def _take_frames(self, data: bytes) -> None:
        socket = self._socket
        assert socket is not None
        socket.feed(data)
        if not socket.ended:
            pending = socket.pending
            self._count_socket(pending if pending > self.limits.unread else 0)
            if self.edge.bodies > self.limits.bodies_total:
                socket.close(TRY_LATER, "the gateway holds too many large messages at the moment")
                socket.tell_end(TRY_LATER)

    def _count_socket(self, size: int) -> None:
        self.edge.bodies += size - self._socket_held
        self._socket_held = size

    def _lose_socket(self, socket: WebSocket) -> None:
        self._count_socket(0)
        socket.lose()

    def _refuse(self, fault: Fault) -> None:
        """Answer a request that has no exchange, and close."""
        body = encode_fault(fault)
        line = b"retry-after: %d\r\n" % fault.retry_after if fault.retry_after is not None else b""
        if isinstance(fault, WrongMethod):
            line = fault.allow
        self.transport.write(
            b"%b%b%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (STATUS_LINE[fault.status], self.common_lines(), line, len(body), body)
        )
        self._close(unread=True)

    def _close(self, *, unread: bool) -> None:
        """Close once what was written is out.

        Where the client may still be sending (`unread`), only our half is closed at first: closing both with bytes
        unread would reset the connection, and the client could lose the answer that tells it why.
        """
        self._phase = CLOSING
        self._rest = b""
        left = self.transport.get_write_buffer_size()
        seconds = self.limits.body_seconds + left / self.limits.body_rate if left else self.limits.linger_seconds
        self.deadline = self.loop.time() + seconds
        if unread and self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
            self.flow.resume_reading()
        else:
            self.transport.close()

    # --- the ASGI application ---

    def _check_for_app(self, head: RequestHead) -> None:
        """The rules that hold for all but the data plane."""
        if head.escaped_slash:
            raise refused("the path holds an escaped slash")
        if head.length > self.limits.app_body:
            raise too_large(self.limits.app_body)

    def _serve_app(self, head: RequestHead) -> None:
        method = METHODS[head.method]
        root = self.root_path
        self.scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1" if head.modern else "1.0",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme or "http",
            "method": method,
            "root_path": root,
            "path": root + head.path,
            "raw_path": root.encode("ascii") + head.raw_path,
            "query_string": head.query,
            "headers": head.headers,
            "state": self.app_state.copy(),
        }
        self._app_received = 0
        self.cycle = RequestResponseCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=head.expect and head.length != 0,
            keep_alive=head.keep_alive and not self.draining,
            on_response=self.on_response_complete,
        )
        self._start_asgi_task(self.cycle, self.app)

    def on_response_complete(self) -> None:
        self.answered(self.cycle.keep_alive)

    def _drop_cycle(self) -> None:
        """Tell the application that the client is gone, and let nothing it sends reach the connection."""
        self.cycle.disconnected = True
        self.cycle.message_event.set()
