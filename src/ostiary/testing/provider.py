"""A scripted OpenAI-compatible provider on a real socket that keeps the ground truth. It must not know the gateway.

In a test it is an async context manager (`async with FakeProvider() as provider`), or runs on a thread and loop of its
own (`with hosted_provider() as provider`) so that synchronous clients can talk to it. As a process:
`python -m ostiary.testing.provider --port N`. What it answers is told by `script.Script`; it can misbehave at the level
of bytes, which is why it writes HTTP itself.
"""

from __future__ import annotations

import argparse
import asyncio
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import responses
from types import TracebackType
from typing import Self, TypeVar

import httptools

from ostiary.testing.answers import Answer, Ask, answer, understand
from ostiary.testing.script import BEFORE_HEAD, BY_NAME, NOT_FOUND, OK, Script

T = TypeVar("T")


@dataclass(eq=False)
class Seen:
    """One request as it arrived, and what became of its answer.

    `headers` are as sent, in order; `body` is exact, after removal of chunked framing. `outcome` is "open", "done",
    "cut" (as the script wanted) or "aborted" (the peer went away before the end). Times are monotonic seconds.
    """

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    ask: Ask
    connection: int
    at: float
    events_sent: int = 0
    bytes_sent: int = 0
    outcome: str = "open"
    ended: float = 0.0

    @property
    def model(self) -> str:
        """The model that the body or the path names."""
        return self.ask.model

    def header(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass
class _Queue:
    scripts: list[Script] = field(default_factory=list)

    def next(self) -> Script:
        return self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]


class FakeProvider:
    """The server and its ground truth: `requests` in order of arrival and `connections`, the number ever accepted.

    `script`, `release`, `seen` and `wait` may be called from any thread.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port
        self.requests: list[Seen] = []
        self.connections = 0
        self._scripts: dict[str, _Queue] = {}
        self._released: dict[str, asyncio.Event] = {}
        self._changed = threading.Condition()
        self._links: set[_Link] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._server = await self._loop.create_server(lambda: _Link(self), self.host, self.port, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [link.task for link in self._links if link.task is not None]
        for link in list(self._links):
            link.shut()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """The base URL, `/v1` included."""
        return f"http://{self.host}:{self.port}/v1"

    def script(self, name: str, *scripts: Script) -> None:
        """Answer the next requests for a model (or "METHOD /path") by these scripts; the last one stays in force."""
        self._scripts[name] = _Queue(list(scripts))

    def release(self, model: str) -> None:
        """Let held answers for this model, present and future, go on."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._event(model).set)

    def seen(self, model: str) -> list[Seen]:
        """The requests for this model."""
        return [one for one in list(self.requests) if one.model == model]

    def wait(self, condition: Callable[[], T], seconds: float = 5.0) -> T:
        """Block until the condition, asked again after each event here, holds; its value.

        Raises:
            TimeoutError: it did not hold in time.
        """
        with self._changed:
            value = self._changed.wait_for(condition, seconds)
        if not value:
            raise TimeoutError("the fake provider did not see what was expected")
        return value

    async def until(self, condition: Callable[[], T], seconds: float = 5.0) -> T:
        """`wait` for tests that run on an event loop."""
        return await asyncio.to_thread(self.wait, condition, seconds)

    def _event(self, model: str) -> asyncio.Event:
        return self._released.setdefault(model, asyncio.Event())

    def _choose(self, ask: Ask) -> Script:
        for name in (ask.model, f"{ask.method} {ask.path}"):
            if name in self._scripts:
                return self._scripts[name].next()
        return BY_NAME.get(ask.model, OK)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()


class _Link(asyncio.Protocol):
    """One connection: reads requests with llhttp, plays scripts one after the other."""

    def __init__(self, provider: FakeProvider) -> None:
        self._provider = provider
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: list[Seen] = []
        self._writable = asyncio.Event()
        self._writable.set()
        self.task: asyncio.Task[None] | None = None
        self._now: Seen | None = None
        self._number = 0
        self._reset()

    def _reset(self) -> None:
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []

    # the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._provider.connections += 1
        self._number = self._provider.connections
        self._provider._links.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self._provider._links.discard(self)
        if self.task is not None:
            self.task.cancel()
        self._finish("aborted")

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def shut(self) -> None:
        """Close now."""
        self._transport.abort()

    # the parser's side

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        method, target, body = self._parser.get_method().decode(), self._target.decode("latin-1"), b"".join(self._body)
        kind = next((value for name, value in self._headers if name.lower() == "content-type"), "")
        ask = understand(method, target, kind, body)
        seen = Seen(method, target, self._headers, body, ask, self._number, time.monotonic())
        self._reset()
        self._provider.requests.append(seen)
        self._provider._notify()
        self._waiting.append(seen)
        if self.task is None or self.task.done():
            self.task = asyncio.get_running_loop().create_task(self._serve())

    # the play

    async def _serve(self) -> None:
        while self._waiting and not self._transport.is_closing():
            self._now = self._waiting.pop(0)
            script = self._provider._choose(self._now.ask)
            cut = await self._play(self._now, script)
            self._finish("cut" if cut else "done")
            if cut or script.close or script.raw is not None or script.length is not None:
                self._transport.close()

    def _finish(self, outcome: str) -> None:
        if self._now is not None and self._now.outcome == "open":
            self._now.outcome, self._now.ended = outcome, time.monotonic()
        self._now = None
        self._provider._notify()

    async def _play(self, seen: Seen, script: Script) -> bool:
        """Send one answer; whether it was cut short on purpose."""
        if script.delay_head:
            await asyncio.sleep(script.delay_head)
        if script.hold == BEFORE_HEAD:
            await self._held(seen)
        if script.raw is not None:
            return await self._write(seen, script, script.raw)
        reply = answer(seen.ask, script)
        if reply is None:
            script = NOT_FOUND
            reply = answer(seen.ask, script)
            assert reply is not None
        pieces, length = _pieces(reply, script), None
        if not reply.stream or script.length is not None:
            length = sum(map(len, pieces)) if script.length is None else script.length
        head = _head(reply, script, length)
        if script.hold is None and not script.delay_event and script.cut_event is None and not reply.stream:
            seen.events_sent = len(pieces)
            return await self._write(seen, script, head + b"".join(pieces))
        return await self._write(seen, script, head) or await self._events(seen, script, pieces, length is None)

    async def _events(self, seen: Seen, script: Script, pieces: Sequence[bytes], chunked: bool) -> bool:
        inserts = dict(script.insert)
        for number, piece in enumerate(pieces):
            if script.hold == number:
                await self._held(seen)
            data = inserts.get(number, b"")
            ends = script.cut_event == number
            data += b"" if ends else piece
            if script.delay_event and not ends:
                await asyncio.sleep(script.delay_event)
            if data and await self._write(seen, script, _chunk(data) if chunked else data):
                return True
            if ends:
                return True
            seen.events_sent += 1
            self._provider._notify()
        if script.hold == len(pieces):
            await self._held(seen)
        return await self._write(seen, script, b"0\r\n\r\n") if chunked else False

    async def _held(self, seen: Seen) -> None:
        self._provider._notify()
        await self._provider._event(seen.model).wait()

    async def _write(self, seen: Seen, script: Script, data: bytes) -> bool:
        """Send bytes as fast as the peer takes them; whether the script's cut was reached."""
        cut = script.cut_byte is not None and seen.bytes_sent + len(data) >= script.cut_byte
        if cut:
            assert script.cut_byte is not None
            data = data[: script.cut_byte - seen.bytes_sent]
        seen.bytes_sent += len(data)
        self._transport.write(data)
        await self._writable.wait()
        return cut


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _pieces(reply: Answer, script: Script) -> list[bytes]:
    """The events as they travel: compressed one by one where the script says so."""
    if not script.gzip:
        return list(reply.events)
    packer = zlib.compressobj(wbits=31)
    pieces = [packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH) for event in reply.events]
    pieces[-1] += packer.flush()
    return pieces


def _head(reply: Answer, script: Script, length: int | None) -> bytes:
    phrase = responses.get(script.status, "")  # providers answer with statuses that no list knows
    lines = [f"HTTP/1.1 {script.status} {phrase}", f"content-type: {reply.content_type}"]
    if script.gzip:
        lines.append("content-encoding: gzip")
    lines += [f"{name}: {value}" for name, value in script.headers]
    lines.append("transfer-encoding: chunked" if length is None else f"content-length: {length}")
    if script.close:
        lines.append("connection: close")
    return "\r\n".join((*lines, "", "")).encode("latin-1")


@contextmanager
def hosted_provider(host: str = "127.0.0.1", port: int = 0) -> Iterator[FakeProvider]:
    """A `FakeProvider` on a thread and an event loop of its own."""
    provider = FakeProvider(host, port)
    up, stop = threading.Event(), asyncio.Event()
    failures: list[BaseException] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def live() -> None:
        async with provider:
            loops.append(asyncio.get_running_loop())
            up.set()
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(live())
        except BaseException as failure:  # noqa: BLE001 - handed to the thread that waits
            failures.append(failure)
        finally:
            up.set()

    thread = threading.Thread(target=run, name="fake-provider", daemon=True)
    thread.start()
    up.wait()
    try:
        if not failures:
            yield provider
    finally:
        if loops:
            loops[0].call_soon_threadsafe(stop.set)
        thread.join()
    if failures:
        raise failures[0]


async def _serve_forever(host: str, port: int) -> None:
    async with FakeProvider(host, port) as provider:
        print(f"listening on http://{provider.host}:{provider.port}", flush=True)  # noqa: T201 - a command-line program
        await asyncio.Event().wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted; scripts are chosen by the model's name (`script.BY_NAME`)."""
    parser = argparse.ArgumentParser(prog="python -m ostiary.testing.provider", description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4010)
    options = parser.parse_args(arguments)
    try:
        asyncio.run(_serve_forever(options.host, options.port))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
