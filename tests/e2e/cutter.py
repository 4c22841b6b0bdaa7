"""A relay before a server that can be cut at any moment. It must not change a byte."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Cutter:
    """Relays connections on a port of its own to `host:port` or a Unix socket, on a thread of its own.

    Args:
        target: (host, port), or the path of a socket.
    """

    def __init__(self, target: tuple[str, int] | str) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="cutter", daemon=True)
        self._listening = threading.Event()
        self._stop = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = True
        self.port = 0

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        assert self._listening.wait(5)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        async with server:
            await self._stop.wait()
            self._cut()

    def cut(self) -> None:
        """Break every connection, in the midst of whatever goes through it, and accept none until `mend`."""
        self._loop.call_soon_threadsafe(self._cut)

    def mend(self) -> None:
        """Accept connections again."""
        self._loop.call_soon_threadsafe(setattr, self, "_open", True)

    def close(self) -> None:
        """Stop."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)

    def _cut(self) -> None:
        self._open = False
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open:
            writer.transport.abort()
            return
        try:
            if isinstance(self._target, str):
                far_reader, far_writer = await asyncio.open_unix_connection(self._target)
            else:
                far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        self._writers -= {writer, far_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.transport.abort()


@contextmanager
def cutter(target: tuple[str, int] | str) -> Iterator[Cutter]:
    """A started relay, closed on leaving."""
    relay = Cutter(target)
    relay.start()
    try:
        yield relay
    finally:
        relay.close()
