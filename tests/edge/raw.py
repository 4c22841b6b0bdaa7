"""A raw-socket client and a small server around the edge, for tests of what goes over the wire."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import uvicorn

from ostiary.core.fault import Fault
from ostiary.core.operation import Endpoint, Operation
from ostiary.gateway.edge import edge_protocol
from ostiary.gateway.edge_rules import EdgeLimits
from ostiary.gateway.ports import Door, Inbound, Route, WrongMethod

HOST = b"Host: gateway.test\r\n"


class Answer(msgspec.Struct):
    """One answer as read from the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


class RawClient:
    """A connection that sends exactly the given bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes) -> None:
        """Send each piece in a segment of its own."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(0)

    async def answer(self, *, method: str = "GET") -> Answer:
        """Read one answer by its own framing."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
        status = int(lines[0].split(" ")[1])
        body = b""
        if method == "HEAD" or status in (204, 304) or status < 200:
            pass
        elif "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            pieces = []
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                pieces.append((await self.reader.readexactly(size + 2))[:-2])
            body = b"".join(pieces)
            assert await self.reader.readexactly(2) == b"\r\n"
        else:
            body = await self.reader.read()
        return Answer(status, headers, body)

    async def rest(self) -> bytes:
        """Everything until the server closes. A reset counts as a close."""
        data = b""
        with contextlib.suppress(ConnectionError):
            while piece := await self.reader.read(65536):
                data += piece
        return data

    async def closed(self) -> bool:
        """Wait for the server to close; whether it did so without sending more."""
        return await self.rest() == b""

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def reset(self) -> None:
        """Vanish without a word."""
        self.writer.transport.abort()


class Seen(msgspec.Struct):
    """A request as the door or the application got it."""

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""


Served = Callable[[Inbound], Awaitable[None]]


class Doorman:
    """A Door whose routes are set by tests: path -> coroutine. `/v1/echo` answers what it saw."""

    def __init__(self) -> None:
        self.routes: dict[str, Served] = {"/v1/echo": self.echo}
        self.limit = 1024 * 1024
        self.seen: list[Seen] = []
        self.cancelled = asyncio.Event()
        self.entered = asyncio.Event()

    def route(self, method: bytes, path: str) -> Route | None:
        if path == "/v1/only-post" and method != b"POST":
            raise WrongMethod("this route takes POST", (b"POST",))
        if path in self.routes:
            return Route(Endpoint("test", Operation.RAW, method.decode(), path))
        if path.startswith("/v1/models/"):
            return Route(Endpoint("model", Operation.RAW, "GET", "/models/{id}"), item=path[11:])
        return None

    async def serve(self, inbound: Inbound, route: Route) -> None:
        self.entered.set()
        try:
            await self.routes.get(inbound.path, self.echo)(inbound)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def echo(self, inbound: Inbound) -> None:
        seen = Seen(inbound.method, inbound.path, inbound.query, list(inbound.headers))
        try:
            seen.body = await inbound.body(self.limit)
        except Fault as fault:
            inbound.answer(fault.status, b"content-type: text/plain\r\n", str(fault.kind).encode())
            return
        self.seen.append(seen)
        inbound.answer(200, b"x-kind: data\r\n", seen.body)


class App:
    """A small ASGI application that answers what it was sent and keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.entered = asyncio.Event()
        self.gone = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        self.entered.set()
        seen = Seen(scope["method"], scope["path"], scope["query_string"], scope["headers"])
        if scope["path"] == "/app/wait":
            while (await receive())["type"] != "http.disconnect":
                pass
            self.gone.set()
            return
        if scope["path"] == "/app/early":
            await self.go_on.wait()
        else:
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.gone.set()
                    return
                seen.body += message["body"]
                more = message["more_body"]
        self.seen.append(seen)
        length = str(len(seen.body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": seen.body})


class EdgeServer:
    """A uvicorn server with the edge, on a port of its own, without uvicorn's main loop and its pauses."""

    def __init__(self, door: Door, app: Any, limits: EdgeLimits, **options: Any) -> None:
        settings: dict[str, Any] = {
            "port": 0,
            "lifespan": "off",
            "log_config": None,
            "access_log": False,
            "server_header": False,
        }
        protocol = edge_protocol(door, limits)
        self.config = uvicorn.Config(app, http=protocol, **(settings | options))
        self.server = uvicorn.Server(self.config)
        self.port = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[EdgeServer]:
        server = self.server
        self.config.load()
        server.lifespan = self.config.lifespan_class(self.config)
        await server.startup()
        await server.on_tick(0)
        self.port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            for listener in server.servers:
                listener.close()
            for connection in list(server.server_state.connections):
                connection.transport.abort()
            while server.server_state.connections or server.server_state.tasks:
                await asyncio.sleep(0)
            for listener in server.servers:
                await listener.wait_closed()

    async def connect(self) -> RawClient:
        return RawClient(*await asyncio.open_connection("127.0.0.1", self.port))

    async def exchange(self, *pieces: bytes) -> bytes:
        """Send on a new connection and read until the server closes it."""
        client = await self.connect()
        try:
            reading = asyncio.create_task(client.rest())
            with contextlib.suppress(ConnectionError):
                await client.send(*pieces)
            return await reading
        finally:
            await client.close()


def request(path: str = "/v1/echo", body: bytes = b"", *, method: str = "POST", headers: bytes = b"") -> bytes:
    """A well-formed request."""
    return b"%b %b HTTP/1.1\r\n%bcontent-length: %d\r\n%b\r\n%b" % (
        method.encode(),
        path.encode(),
        HOST,
        len(body),
        headers,
        body,
    )
