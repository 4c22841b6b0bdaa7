"""A provider that says exactly the bytes a test gives it. It must not know HTTP beyond finding a request's end."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable

from ostiary.core.snapshot import Timeouts
from ostiary.gateway.upstream.origin import Origin

GET = b"GET /v1/models HTTP/1.1\r\nHost: provider\r\naccept-encoding: identity\r\n\r\n"
QUICK = Timeouts(connect=2.0, first_byte=5.0, idle=5.0, total=10.0)
HELLO = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"


class Peer:
    """One connection as the provider sees it."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """The next request, head and body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        return head + (await self.reader.readexactly(int(length[1])) if length else b"")

    async def say(self, data: bytes) -> None:
        """Send, waiting while the client does not read."""
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Until the client has closed its side."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def reset(self) -> None:
        """Cut with RST instead of FIN."""
        plug = self.writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Talk = Callable[[Peer], Awaitable[None]]


class ScriptedProvider:
    """Listens on a loopback port and runs `talk` for each connection, then closes it.

    `closed` counts connections whose end the provider has seen; `change` is set whenever anything here changes.
    """

    def __init__(self) -> None:
        self.talk: Talk = self.once(HELLO)
        self.requests: list[bytes] = []
        self.opened = 0
        self.closed = 0
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._change = asyncio.Condition()

    async def listen(self, talk: Talk | None = None, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> int:
        """Start; returns the port."""
        if talk is not None:
            self.talk = talk
        server = await asyncio.start_server(self._serve, host, 0, ssl=tls)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def origin(self, talk: Talk | None = None) -> Origin:
        """Start without TLS; returns where."""
        return Origin("http", "127.0.0.1", await self.listen(talk))

    def once(self, answer: bytes, *, stay: bool = False, reset: bool = False) -> Talk:
        """One answer to one request; then close, reset, or stay until the client leaves."""

        async def talk(peer: Peer) -> None:
            self.requests.append(await peer.request())
            await peer.say(answer)
            if reset:
                peer.reset()
            elif stay:
                await peer.gone()

        return talk

    def always(self, answer: bytes) -> Talk:
        """The same answer to each request, until the client leaves."""

        async def talk(peer: Peer) -> None:
            while True:
                self.requests.append(await peer.request())
                await peer.say(answer)

        return talk

    async def until(self, condition: Callable[[], bool], seconds: float = 2.0) -> None:
        """Wait for something that the provider sees."""
        async with asyncio.timeout(seconds), self._change:
            await self._change.wait_for(condition)

    async def close(self) -> None:
        """Stop listening and cut what is left."""
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        async with self._change:
            self.opened += 1
            self._change.notify_all()
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self.talk(Peer(self.opened, reader, writer))
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError, ssl.SSLError, TimeoutError):
                await writer.wait_closed()
        finally:
            self._tasks.discard(task)
            async with self._change:
                self.closed += 1
                self._change.notify_all()
