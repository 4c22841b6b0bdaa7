"""The plain ASGI adapter of `Inbound`: the data plane mounted in any ASGI server, or called without one.

It must not decide anything about a request. What only the edge can do is the server's business here: deadlines for
heads, caps on connections, framing, and cutting a connection (an answer that is given up ends in an exception, at which
a server closes it). Source: ASGI specification 3.0, HTTP connection scope 2.3.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import quote

from ostiary.core.fault import Fault, Kind
from ostiary.gateway.edge_inbound import BODILESS, too_large
from ostiary.gateway.edge_rules import canonical_path, check_answer_head, refused
from ostiary.gateway.ports import Door, Route, WrongMethod
from ostiary.wire.dialects.openai_chat.faults import encode_fault

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

BODY_SECONDS = 60.0  # for a body to arrive, from when it is asked for
UNREAD = 64 * 1024  # bytes of a body that are taken before anybody asks for it
_CONTROLS = bytes(code for code in range(128) if (code < 32 and code != 9) or code == 127)
UNSENT = 64 * 1024  # bytes of an answer that wait for the server before the client counts as blocked


class AsgiInbound:
    """See `ports.Inbound`. Three coroutines share it: the exchange, `listen` (what comes), `deliver` (what goes).

    `cut` says that the answer was given up.

    Raises:
        Fault: MALFORMED for a path or headers that no server should have let through.
    """

    __slots__ = (
        "_asked",
        "_bodiless",
        "_body",
        "_body_seconds",
        "_ended",
        "_fault",
        "_free",
        "_held",
        "_left",
        "_limit",
        "_receive",
        "_send",
        "_unsent",
        "_waiting",
        "_wake",
        "_whole",
        "cut",
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

    def __init__(self, scope: Message, receive: Receive, send: Send, *, body_seconds: float = BODY_SECONDS) -> None:
        self.method: str = scope["method"]
        self.path = _path(scope)
        self.query: bytes = scope.get("query_string", b"")
        self.peer: str = (scope.get("client") or ("", 0))[0]
        self.headers = _headers(scope)
        self.gone = False
        self.started = False
        self.writable = True
        self.on_writable: Callable[[], None] | None = None
        self.on_blocked: Callable[[], None] | None = None
        self.task: asyncio.Task[None] | None = None
        self._receive = receive
        self._send = send
        self._body_seconds = body_seconds
        self._body = bytearray()
        self._limit = -1  # nobody has asked for the body yet
        self._fault: Fault | None = None  # why there will be no body
        self._asked = asyncio.Event()
        self._whole = asyncio.Event()  # the body is here, or a fault in its place
        self._held: Message | None = None  # the start of the answer, held back
        self._left: int | None = None  # bytes still owed to an answer of known length
        self._bodiless = self.method == "HEAD"
        self._unsent: deque[Message] = deque()
        self._waiting = 0  # bytes in `_unsent`
        self._wake = asyncio.Event()  # there is something to send, or it is over
        self._free = asyncio.Event()  # `writable` is True again, or nobody writes any more
        self._free.set()
        self._ended = False
        self.cut = False

    # --- the request's body ---

    async def body(self, limit: int) -> bytes:
        """See `Inbound.body`."""
        announced = next((value for name, value in self.headers if name == b"content-length"), b"")
        if len(self._body) > limit or (announced.isdigit() and int(announced) > limit):
            raise too_large(limit)
        self._limit = limit
        self._asked.set()
        try:
            async with asyncio.timeout(self._body_seconds):
                await self._whole.wait()
        except TimeoutError:
            raise Fault(Kind.CLIENT_TIMEOUT, "the request body did not arrive in time") from None
        if self._fault is not None:
            raise self._fault
        return bytes(self._body)

    async def listen(self) -> None:
        """Take the body, then watch for the client's leaving. Ends when it has left, or what it sends is too much."""
        more = True
        while True:
            if more and self._limit < 0 and len(self._body) > UNREAD:
                await self._asked.wait()
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._lose()
                return
            self._take(message.get("body", b""))
            if self._fault is not None:
                return
            more = message.get("more_body", False)
            if not more:
                self._whole.set()

    def _take(self, piece: bytes) -> None:
        self._body += piece
        if 0 <= self._limit < len(self._body):
            self._fault = too_large(self._limit)
            self._body.clear()
            self._whole.set()

    def _lose(self) -> None:
        if self._ended:
            return
        self.gone = self._ended = True
        self._over()
        if self.task is not None:
            self.task.cancel()

    # --- the answer ---

    def answer(self, status: int, head: bytes, body: bytes) -> None:
        """See `Inbound.answer`."""
        self.start(status, head, len(body))
        self.write(body)
        self.end()

    def start(self, status: int, head: bytes, length: int | None = None) -> None:
        """See `Inbound.start`."""
        if self.gone:
            return
        if self.started or self._ended:
            raise RuntimeError("the answer has begun")
        check_answer_head(head)
        lines = [line.partition(b":") for line in head.split(b"\r\n")[:-1]]
        headers = [(name.lower(), value.strip()) for name, _, value in lines]
        self._bodiless = self.method == "HEAD" or status in BODILESS
        self._left = None if self._bodiless else length
        if length is not None and status not in BODILESS:
            headers.append((b"content-length", b"%d" % length))
        self._held = {"type": "http.response.start", "status": status, "headers": headers}

    def write(self, data: bytes) -> None:
        """See `Inbound.write`."""
        if self.gone:
            return
        if self._ended or (self._held is None and not self.started):
            raise RuntimeError("an answer is written between its start and its end")
        if self._bodiless:
            data = b""
        if self._left is not None:
            if len(data) > self._left:
                raise ValueError("the answer is longer than it said")
            self._left -= len(data)
        self._post(data, more=True)

    def end(self) -> None:
        """See `Inbound.end`. An answer that is shorter than it said is cut off instead."""
        if self.gone or self._ended:
            return
        if self._held is None and not self.started:
            raise RuntimeError("an answer is written between its start and its end")
        if self._left:
            self.abort()
            return
        self._post(b"", more=False)
        self._ended = True
        self._over()

    def abort(self) -> None:
        """See `Inbound.abort`."""
        if not self._ended:
            self._ended = self.cut = True
            self._over()

    async def drain(self) -> None:
        """See `Inbound.drain`."""
        await self._free.wait()

    async def deliver(self) -> None:
        """Bring the answer to the server, until it is over."""
        while True:
            self._wake.clear()
            while self._unsent and not (self.gone or self.cut):
                message = self._unsent.popleft()
                try:
                    await self._send(message)
                except OSError:  # the server's way to say that the client has left
                    self._lose()
                    return
                self._waiting -= len(message.get("body", b""))
                self._sent()
            if self._ended:
                return
            await self._wake.wait()

    def close(self) -> None:
        """The exchange is over. One that has left no whole answer has failed or was stopped."""
        if not self._ended:
            self.abort()

    def _post(self, data: bytes, *, more: bool) -> None:
        if self._held is not None:
            self._unsent.append(self._held)
            self._held = None
            self.started = True
        self._unsent.append({"type": "http.response.body", "body": data, "more_body": more})
        self._waiting += len(data)
        self._wake.set()
        if self.writable and self._waiting > UNSENT:
            self.writable = False
            self._free.clear()
            if self.on_blocked is not None:
                self.on_blocked()

    def _sent(self) -> None:
        if not self.writable and self._waiting <= UNSENT // 2 and not self._ended:
            self.writable = True
            self._free.set()
            if self.on_writable is not None:
                self.on_writable()

    def _over(self) -> None:
        self._wake.set()
        self._free.set()


def asgi_app(door: Door, *, body_seconds: float = BODY_SECONDS) -> AsgiApp:
    """The data plane as an ASGI application; a path that is not the data plane's is answered 404.

    Args:
        body_seconds: how long a body may take to arrive.
    """

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await _serve(door, scope, receive, send, body_seconds)
        else:
            raise ValueError("the data plane speaks HTTP only")

    return app


async def _serve(door: Door, scope: Message, receive: Receive, send: Send, body_seconds: float) -> None:
    try:
        inbound = AsgiInbound(scope, receive, send, body_seconds=body_seconds)
        route = _route(door, inbound)
    except Fault as fault:
        await _refuse(fault, send)
        return

    async def exchange() -> None:
        try:
            await door.serve(inbound, route)
        finally:
            inbound.close()

    async with asyncio.TaskGroup() as group:
        listening = group.create_task(inbound.listen())
        inbound.task = group.create_task(exchange())
        await inbound.deliver()
        listening.cancel()
    if inbound.cut:
        raise ConnectionAbortedError("the answer was given up")


def _route(door: Door, inbound: AsgiInbound) -> Route:
    route = door.route(inbound.method.encode("latin-1"), inbound.path)
    if route is None:
        raise Fault(Kind.NOT_FOUND, "there is nothing at this path")
    return route


async def _refuse(fault: Fault, send: Send) -> None:
    body = encode_fault(fault)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if isinstance(fault, WrongMethod):
        name, _, methods = fault.allow.rstrip().partition(b": ")
        headers.append((name, methods))
    await send({"type": "http.response.start", "status": fault.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _live(receive: Receive, send: Send) -> None:
    """The server's start and stop: whoever made the door opens and closes what is behind it."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _path(scope: Message) -> str:
    """The canonical path below the place where the application is mounted."""
    root: str = scope.get("root_path", "")
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode("ascii")
    return canonical_path(raw).removeprefix(root)


def _headers(scope: Message) -> list[tuple[bytes, bytes]]:
    """Lower-case names; those with an underscore are dropped as at the edge, and no control byte passes."""
    headers = [(name.lower(), value) for name, value in scope["headers"] if b"_" not in name]
    if any(field.translate(None, _CONTROLS) != field for header in headers for field in header):
        raise refused("a header holds bytes that no header may hold")
    return headers
