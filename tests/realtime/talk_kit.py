"""A scripted provider of the Realtime API on a real socket, and raw clients, for tests of the relay."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from openai import AsyncOpenAI
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from ostiary.testing.gateway import Gateway
from ostiary.wire.framing.websocket import (
    BROKEN,
    Closing,
    Event,
    Message,
    WebSocketFramer,
    encode_frame,
)

USAGE = {
    "total_tokens": 253,
    "input_tokens": 132,
    "output_tokens": 121,
    "input_token_details": {
        "text_tokens": 119, "audio_tokens": 13, "cached_tokens": 64,
        "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4},
    },
    "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
}  # fmt: skip
# what the ledger is to say of it: cached audio counts as cached
PRICES = {
    "input_cost_per_token": 4e-6,
    "output_cost_per_token": 16e-6,
    "cache_read_input_token_cost": 0.4e-6,
    "input_cost_per_audio_token": 32e-6,
    "output_cost_per_audio_token": 64e-6,
}
COST = (132 - 64 - 9) * 4e-6 + 64 * 0.4e-6 + 9 * 32e-6 + 30 * 16e-6 + 91 * 64e-6


@dataclass
class Call:
    """One session as the provider saw it."""

    socket: ServerConnection
    target: str
    headers: dict[str, str]
    events: list[dict[str, Any]] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    code: int | None = None

    @property
    def model(self) -> str:
        return parse_qs(urlsplit(self.target).query).get("model", [""])[0]

    async def send(self, **event: Any) -> None:
        await self.socket.send(json.dumps({"event_id": "event_p", **event}))

    async def until(self, kind: str, count: int = 1) -> dict[str, Any]:
        """The n-th event of a type, once it has come."""
        async with asyncio.timeout(10):
            while len(found := [event for event in self.events if event["type"] == kind]) < count:
                self.news.clear()
                await self.news.wait()
        return found[count - 1]

    async def respond(self, text: str = "hello", *, response: str = "resp_1", usage: Any = USAGE) -> None:
        """A whole response: text, audio, its end."""
        item = {"id": "item_1", "type": "message", "role": "assistant", "status": "completed", "content": []}
        about = {"response_id": response, "item_id": "item_1", "output_index": 0, "content_index": 0}
        begun = {"id": response, "object": "realtime.response", "status": "in_progress", "output": []}
        await self.send(type="response.created", response=begun)
        await self.send(type="response.output_text.delta", delta=text, **about)
        await self.send(type="response.output_audio.delta", delta=base64.b64encode(b"\0\1" * 100).decode(), **about)
        done = {**begun, "status": "completed", "output": [item], "usage": usage}
        await self.send(type="response.done", response=done)


Play = Callable[[Call], Awaitable[None]]


async def obedient(call: Call) -> None:
    """Answers each event as the API does, in the plainest way."""
    await call.send(type="session.created", session={"type": "realtime", "id": "sess_1", "model": call.model})
    async for text in call.socket:
        event = json.loads(text)
        call.events.append(event)
        call.news.set()
        if event["type"] == "session.update":
            await call.send(type="session.updated", session={**event["session"], "id": "sess_1"})
        elif event["type"] == "response.create":
            number = sum(each["type"] == "response.create" for each in call.events)
            await call.respond(response=f"resp_{number}")


async def listening(call: Call) -> None:
    """Says hello, then only listens."""
    await call.send(type="session.created", session={"type": "realtime", "id": "sess_1", "model": call.model})
    async for text in call.socket:
        call.events.append(json.loads(text))
        call.news.set()


class RealtimeProvider:
    """The server. `play` is what the next sessions do; `calls` are those that came, in order."""

    def __init__(self) -> None:
        self.play: Play = obedient
        self.calls: list[Call] = []
        self.port = 0
        self._came = asyncio.Event()
        self.refusal: tuple[int, Any] | None = None  # answered to the handshake in place of 101

    def _judge(self, socket: ServerConnection, request: Request) -> Response | None:
        if self.refusal is None:
            return None
        answer = socket.respond(self.refusal[0], json.dumps(self.refusal[1]))
        del answer.headers["content-type"]
        answer.headers["content-type"] = "application/json"
        return answer

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        headers = {name.lower(): value for name, value in socket.request.headers.raw_items()}
        call = Call(socket, socket.request.path, headers)
        self.calls.append(call)
        self._came.set()
        try:
            await self.play(call)
        except ConnectionClosed:
            pass
        finally:
            call.code = socket.close_code
            call.ended.set()

    async def call(self, number: int = 1) -> Call:
        async with asyncio.timeout(10):
            while len(self.calls) < number:
                self._came.clear()
                await self._came.wait()
        return self.calls[number - 1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[RealtimeProvider]:
        async with serve(
            self._serve,
            "127.0.0.1",
            0,
            process_request=self._judge,
            compression=None,
            max_size=None,
            ping_interval=None,
            close_timeout=1,
        ) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            yield self


async def events_until_closed(talk: Any) -> tuple[list[Any], int]:
    """The events that the official client gets until the close, and the code of that."""
    events: list[Any] = []
    while True:
        try:
            events.append(await asyncio.wait_for(talk.recv(), 10))
        except ConnectionClosed as ended:
            return events, ended.rcvd.code if ended.rcvd is not None else BROKEN


def client_of(gateway: Gateway, key: str) -> AsyncOpenAI:
    """The official client, as people have it."""
    return AsyncOpenAI(base_url=gateway.base_url, api_key=key, max_retries=0)


class RawTalk:
    """A client that sends exactly the given bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.framer = WebSocketFramer(masked=False)
        self.events: list[Event] = []

    @classmethod
    async def ask(cls, gateway: Gateway, *lines: str, target: str = "/v1/realtime?model=talk") -> tuple[RawTalk, str]:
        """Send a request of these header lines; the client and the head of the answer."""
        reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
        first = target if " " in target else f"GET {target} HTTP/1.1"
        writer.write("\r\n".join([first, "Host: gateway.test", *lines, "", ""]).encode("latin-1"))
        async with asyncio.timeout(10):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        return cls(reader, writer), head

    @classmethod
    async def opened(cls, gateway: Gateway, key: str, model: str = "talk") -> RawTalk:
        talk, head = await cls.ask(gateway, *handshake(key), target=f"/v1/realtime?model={model}")
        assert " 101 " in head, head
        return talk

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    def send(self, **event: Any) -> None:
        self.write(encode_frame(1, json.dumps(event).encode(), os.urandom(4)))

    async def next(self) -> Event | None:
        """The next event; None at the end of the stream."""
        async with asyncio.timeout(10):
            while not self.events:
                try:
                    data = await self.reader.read(65536)
                except ConnectionError:
                    data = b""
                if not data:
                    return None
                self.events += self.framer.feed(data)
        return self.events.pop(0)

    async def event(self, kind: str) -> dict[str, Any]:
        """The next event of the API of this type."""
        while True:
            got = await self.next()
            assert isinstance(got, Message), got
            event: dict[str, Any] = json.loads(got.payload)
            if event["type"] == kind:
                return event

    async def closing(self) -> Closing:
        """The close frame, whatever comes before it."""
        while True:
            got = await self.next()
            assert got is not None, "the connection ended without a close frame"
            if isinstance(got, Closing):
                return got

    def cut(self) -> None:
        self.writer.transport.abort()

    async def over(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


def handshake(key: str | None, **changed: str | None) -> list[str]:
    """Header lines that open a WebSocket; `changed` replaces or, with None, removes lines (`_` for `-`)."""
    lines: dict[str, str | None] = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "authorization": f"Bearer {key}" if key else None,
    }
    lines |= {name.replace("_", "-"): value for name, value in changed.items()}
    return [f"{name}: {value}" for name, value in lines.items() if value is not None]
