"""A WebSocket to a provider: trust, proxies, refusals and hostile handshakes."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ostiary.core.fault import Fault, Kind
from ostiary.core.snapshot import Timeouts
from ostiary.gateway.deadlines import Sweeper
from ostiary.gateway.upstream.origin import Origin
from ostiary.gateway.upstream.pool import Upstream
from ostiary.gateway.upstream.websocket import Refusal
from ostiary.gateway.websocket import WebSocket
from ostiary.wire.framing.websocket import TEXT, WebSocketFramer, accept_of, encode_frame

HEAD = b"GET /v1/realtime?model=m HTTP/1.1\r\nhost: provider.test\r\n"
QUICK = Timeouts(connect=2.0, first_byte=2.0, idle=2.0, total=5.0)
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Ears:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.news = asyncio.Event()

    def on_message(self, payload: bytes, *, text: bool) -> None:
        self.heard.append(payload)
        self.news.set()

    def on_end(self, code: int, reason: str) -> None:
        self.ended.set_result(code)

    def on_blocked(self) -> None: ...
    def on_writable(self) -> None: ...
    def on_stopping(self) -> None: ...


@asynccontextmanager
async def listening(peer: Peer, **options: Any) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await peer(reader, writer)
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, **options)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def caller() -> AsyncIterator[Upstream]:
    client = Upstream(Sweeper(asyncio.get_running_loop(), tick=0.02))
    yield client
    await client.close()
    assert client.connections == 0


async def ask(upstream: Upstream, origin: Origin, ears: Ears, timeouts: Timeouts = QUICK) -> WebSocket | Refusal:
    return await upstream.open_websocket(origin, HEAD, timeouts, ears, largest=1000, silence=5.0)


def answering(*lines: str, status: str = "101 Switching Protocols", after: bytes = b"") -> Peer:
    """A peer that answers a handshake with these lines; `{accept}` stands for what belongs there."""

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        key = re.search(rb"sec-websocket-key: (\S+)", head)
        assert key is not None
        told = "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).replace("{accept}", accept_of(key[1]).decode())
        writer.write(told.encode() + after)
        await writer.drain()

    return peer


GOOD = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: {accept}")


async def test_what_comes_with_the_answer_waits_for_begin(caller: Upstream) -> None:
    ears = Ears()
    async with listening(answering(*GOOD, after=encode_frame(TEXT, b"first"))) as port:
        origin = Origin("http", "127.0.0.1", port)
        caller.admit([origin])
        socket = await ask(caller, origin, ears)
        assert isinstance(socket, WebSocket)
        await asyncio.sleep(0)
        assert ears.heard == []
        socket.begin()
        assert ears.heard == [b"first"]
        await caller.close()
        assert await ears.ended == 1006


HOSTILE = {
    "another accept": ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: AAAA"),
    "no accept": ("Upgrade: websocket", "Connection: Upgrade"),
    "accept twice": (*GOOD, "Sec-WebSocket-Accept: {accept}"),
    "another protocol": ("Upgrade: h2c", "Connection: Upgrade", "Sec-WebSocket-Accept: {accept}"),
    "no connection": ("Upgrade: websocket", "Sec-WebSocket-Accept: {accept}"),
    "an extension": (*GOOD, "Sec-WebSocket-Extensions: permessage-deflate"),
    "a subprotocol": (*GOOD, "Sec-WebSocket-Protocol: realtime"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_an_answer_that_is_not_ours_is_no_session(caller: Upstream, name: str) -> None:
    async with listening(answering(*HOSTILE[name])) as port:
        origin = Origin("http", "127.0.0.1", port)
        caller.admit([origin])
        with pytest.raises(Fault) as refused:
            await ask(caller, origin, Ears())
        assert refused.value.kind in (Kind.BAD_ANSWER, Kind.TRUNCATED)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", Kind.CONNECT),
        (b"HTTP/1.1 101 Sw", Kind.TRUNCATED),
        (b"SSH-2.0-OpenSSH_9.9\r\n", Kind.BAD_ANSWER),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000, Kind.BAD_ANSWER),
    ],
    ids=["nothing", "half", "ssh", "endless"],
)
async def test_what_is_no_answer_is_a_fault(caller: Upstream, raw: bytes, kind: Kind) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        writer.close()

    async with listening(peer) as port:
        origin = Origin("http", "127.0.0.1", port)
        caller.admit([origin])
        with pytest.raises(Fault) as refused:
            await ask(caller, origin, Ears())
        assert refused.value.kind is kind


async def test_a_refusal_is_given_back_whole(caller: Upstream) -> None:
    peer = answering("Content-Length: 4", "Content-Type: text/plain", status="403 Forbidden", after=b"no!\n")
    async with listening(peer) as port:
        origin = Origin("http", "127.0.0.1", port)
        caller.admit([origin])
        refusal = await ask(caller, origin, Ears())
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.body) == (403, b"no!\n")


async def test_a_silent_provider_is_given_up(caller: Upstream) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with listening(peer) as port:
        origin = Origin("http", "127.0.0.1", port)
        caller.admit([origin])
        with pytest.raises(Fault) as late:
            await ask(caller, origin, Ears(), Timeouts(connect=0.1, first_byte=0.1))
        assert late.value.kind is Kind.TIMEOUT


async def test_an_origin_that_is_not_configured_is_not_called(caller: Upstream) -> None:
    with pytest.raises(Fault, match="connect"):
        await ask(caller, Origin("http", "127.0.0.1", 9), Ears())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await answering(*GOOD)(reader, writer)
    framer = WebSocketFramer(masked=True)
    while data := await reader.read(1000):
        for event in framer.feed(data):
            if hasattr(event, "text"):
                writer.write(encode_frame(TEXT, event.payload))


async def hears_itself(upstream: Upstream, origin: Origin) -> None:
    ears = Ears()
    socket = await ask(upstream, origin, ears)
    assert isinstance(socket, WebSocket)
    socket.begin()
    socket.send(b"hello")
    await asyncio.wait_for(ears.news.wait(), 5)
    assert ears.heard == [b"hello"]
    socket.close(1000, "")


def authority(folder: Path) -> Any:
    """The certificate authority of the upstream tests."""
    home = Path(__file__).parent.parent / "upstream"
    sys.path.insert(0, str(home))
    try:
        spec = importlib.util.spec_from_file_location("realtime_authority", home / "test_upstream_tls.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(home))
    return module.Authority(folder)


async def test_wss_is_verified_by_the_trust_configured_for_it(caller: Upstream, tmp_path: Path) -> None:
    trusted = authority(tmp_path)
    async with listening(echo, ssl=trusted.serve("localhost")) as port:
        good = Origin("https", "localhost", port, ca_file=str(trusted.file))
        stranger = Origin("https", "localhost", port)
        caller.admit([good, stranger])
        await hears_itself(caller, good)
        with pytest.raises(Fault) as refused:
            await ask(caller, stranger, Ears())
        assert refused.value.kind is Kind.CONNECT


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_forward_proxy_lays_a_tunnel(caller: Upstream, tmp_path: Path, scheme: str) -> None:
    trusted = authority(tmp_path)
    asked: list[bytes] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        inner, outer = await asyncio.open_connection("127.0.0.1", int(asked[-1].split()[1].rsplit(b":", 1)[1]))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(copy(reader, outer), copy(inner, writer), return_exceptions=True)
        outer.close()

    options = {"ssl": trusted.serve("localhost")} if scheme == "https" else {}
    async with listening(echo, **options) as port, listening(tunnel) as proxy:
        origin = Origin(
            scheme, "localhost", port, ca_file=str(trusted.file), proxy=f"http://me:pw@127.0.0.1:{proxy}"
        )  # fmt: skip
        caller.admit([origin])
        await hears_itself(caller, origin)
    assert asked[0].startswith(b"CONNECT localhost:%d " % port)
    assert b"Proxy-Authorization: Basic " in asked[0]
