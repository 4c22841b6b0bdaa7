"""An HTTP/1.1 client that sends the bytes it is given and shows what came back. It must not repair anything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httptools


@dataclass
class RawAnswer:
    """What has arrived of one answer. `complete` is whether its framing came to a proper end."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    complete: bool = False
    keep_alive: bool = False

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def events(self) -> list[str]:
        """The `data` of each complete server-sent event so far; comments are no events."""
        frames = self.body.decode().split("\n\n")[:-1]
        return [frame.removeprefix("data: ") for frame in frames if frame.startswith("data: ")]


class _Reader:
    """llhttp's callbacks, filling a `RawAnswer`."""

    def __init__(self) -> None:
        self.answer = RawAnswer()
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.answer.headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self.answer.status = self.parser.get_status_code()
        self.answer.keep_alive = self.parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        self.answer.body += data

    def on_message_complete(self) -> None:
        self.answer.complete = self.answer.status >= 200


class RawConnection:
    """One connection, used as `async with RawConnection(url) as link`. Not for use by several tasks at once.

    Bytes are taken from the socket only while something is received (and some 100 kB ahead): a slow reader.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self._parse = _Reader()
        self.answer = self._parse.answer
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self.host, self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()

    def cut(self) -> None:
        """Go away now, with a reset."""
        self._writer.transport.abort()

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self, *, until: int | None = None, seconds: float = 10.0) -> RawAnswer:
        """Read one answer to its end, or until it holds `until` events, or until the peer closes.

        Call it again to go on with an answer that was left at `until` events.

        Raises:
            TimeoutError: nothing of that happened in time.
        """
        if self.answer.complete or not self.answer.status:
            self._parse = _Reader()
            self.answer = self._parse.answer
        async with asyncio.timeout(seconds):
            while not self.answer.complete and (until is None or len(self.answer.events()) < until):
                if not await self.read_some(seconds):
                    break
        return self.answer

    async def read_some(self, seconds: float = 10.0) -> bytes:
        """The next bytes as they arrive, which also go to the answer that `receive` began; empty at the end."""
        async with asyncio.timeout(seconds):
            data = await self._reader.read(65536)
        if data:
            self._parse.parser.feed_data(data)
        return data

    async def ask(self, *args: Any, seconds: float = 10.0, **kwargs: Any) -> RawAnswer:
        """`send(request(...))` and `receive`."""
        await self.send(request(*args, **kwargs))
        return await self.receive(seconds=seconds)


def request(
    method: str,
    path: str,
    body: bytes | None = None,
    *,
    key: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
    host: str = "gateway.test",
) -> bytes:
    """The bytes of a well-formed request; `key` travels as a bearer credential."""
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}"]
    given = list(headers)
    if key is not None:
        lines.append(f"authorization: Bearer {key}")
    if body is not None:
        if not any(name.lower() == "content-type" for name, _ in given):
            lines.append("content-type: application/json")
        lines.append(f"content-length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in given]
    return "\r\n".join((*lines, "", "")).encode("latin-1") + (body or b"")


async def fetch(url: str, method: str, path: str, body: bytes | None = None, **kwargs: Any) -> RawAnswer:
    """One request on a connection of its own."""
    async with RawConnection(url) as link:
        return await link.ask(method, path, body, **kwargs)
