"""NET-14 and NET-12: what misbehaves gets a typed fault, bounded memory, and no second use of the connection."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc

import pytest
from scripted_provider import GET, HELLO, QUICK, Peer, ScriptedProvider

from ostiary.core.fault import Fault, Kind, Retry
from ostiary.core.fault import Origin as Whose
from ostiary.core.snapshot import Timeouts
from ostiary.gateway.upstream.pool import Upstream

OK = b"HTTP/1.1 200 OK\r\n"
ENDED = b"Content-Length: 2\r\n\r\nhi"

GARBAGE = {
    "html": b"<html><body>hello</body></html>",
    "http-0.9": b"hello",
    "http-0.9-line": b"HTTP/0.9 200 OK\r\n" + ENDED,
    "http-2": b"HTTP/2.0 200 OK\r\n" + ENDED,
    "http-2-preface": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "tls-alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "status-letters": b"HTTP/1.1 abc OK\r\n" + ENDED,
    "status-long": b"HTTP/1.1 2000 OK\r\n" + ENDED,
    "status-small": b"HTTP/1.1 099 OK\r\n" + ENDED,
    "status-large": b"HTTP/1.1 600 OK\r\n" + ENDED,
    "bare-lf": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
    "space-before-colon": OK + b"X : y\r\n" + ENDED,
    "folded": OK + b"X: y\r\n z\r\n" + ENDED,
    "nul": OK + b"X: a\x00b\r\n" + ENDED,
    "length-twice": OK + b"Content-Length: 2\r\n" + ENDED,
    "lengths-differ": OK + b"Content-Length: 3\r\n" + ENDED,
    "length-list": OK + b"Content-Length: 2, 2\r\n\r\nhi",
    "length-signed": OK + b"Content-Length: +2\r\n\r\nhi",
    "length-negative": OK + b"Content-Length: -2\r\n\r\nhi",
    "length-hex": OK + b"Content-Length: 0x2\r\n\r\nhi",
    "length-huge": OK + b"Content-Length: 99999999999999999999\r\n\r\nhi",
    "length-and-chunked": OK + b"Transfer-Encoding: chunked\r\n" + ENDED,
    "chunked-and-length": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked-twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding-unknown": OK + b"Transfer-Encoding: gzip\r\n\r\nhi",
    "coding-list": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding-identity": OK + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunk-size": OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "chunk-overflow": OK + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    "chunk-too-short": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n",
    "gzip": OK + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b",
    "brotli": OK + b"Content-Encoding: br\r\n" + ENDED,
    "gzip-and-identity": OK + b"Content-Encoding: identity, gzip\r\n" + ENDED,
    "switch": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\x81\x02hi",
    "switch-plain": b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK + ENDED,
    "interim-flood": b"HTTP/1.1 100 Continue\r\n\r\n" * 9 + OK + ENDED,
    "many-headers": OK + b"X: y\r\n" * 201 + ENDED,
    "many-trailers": OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 201 + b"\r\n",
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
async def test_net_14_garbage_is_a_bad_answer_and_ends_the_connection(
    upstream: Upstream, provider: ScriptedProvider, answer: bytes
) -> None:
    origin = await provider.origin(provider.once(answer, stay=True))
    upstream.admit([origin])
    with pytest.raises(Fault) as caught:
        await (await upstream.send(origin, GET, b"", QUICK)).read(1000)
    assert (caught.value.kind, caught.value.origin, caught.value.retry) == (Kind.BAD_ANSWER, Whose.UPSTREAM, Retry.NEXT)
    assert "127.0.0.1" not in caught.value.public
    await provider.until(lambda: provider.closed == 1)
    assert upstream.stats()[origin].busy == upstream.stats()[origin].idle == 0


ENDLESS = {
    "status-line": (b"HTTP/1.1 200 ", b"x" * 4096),
    "blank-lines": (b"", b"\r\n" * 2048),
    "header-name": (OK, b"x" * 4096),
    "header-value": (OK + b"X: ", b"x" * 4096),
    "headers": (OK, b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 50),
    "interim": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "chunk-extension": (OK + b"Transfer-Encoding: chunked\r\n\r\n2;", b"x" * 4096),
    "trailer": (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"x" * 4096),
    "chunk-size": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * 4096),
}


@pytest.mark.parametrize(("begin", "more"), ENDLESS.values(), ids=ENDLESS.keys())
async def test_net_14_endless_heads_and_framing_are_cut_early(
    upstream: Upstream, provider: ScriptedProvider, begin: bytes, more: bytes
) -> None:
    said = 0

    async def talk(peer: Peer) -> None:
        nonlocal said
        await peer.request()
        await peer.say(begin)
        while not peer.writer.is_closing():
            await peer.say(more)
            said += len(more)

    origin = await provider.origin(talk)
    upstream.admit([origin])
    with pytest.raises(Fault) as caught:
        await (await upstream.send(origin, GET, b"", QUICK)).read(1000)
    assert caught.value.kind is Kind.BAD_ANSWER
    await provider.until(lambda: provider.closed == 1)
    assert said < 16 << 20  # the kernel's buffers, not ours


async def test_net_14_a_compressed_bomb_is_refused_at_its_header(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    origin = await provider.origin(provider.once(head + bomb))
    upstream.admit([origin])
    with pytest.raises(Fault, match="bad_answer"):
        await upstream.send(origin, GET, b"", QUICK)


@pytest.mark.parametrize("framing", [b"Content-Length: 5000", b"Transfer-Encoding: chunked", b"X: until-the-end"])
async def test_net_14_a_body_beyond_the_limit_of_its_reader_is_cut(
    upstream: Upstream, provider: ScriptedProvider, framing: bytes
) -> None:
    body = b"1388\r\n" + bytes(5000) + b"\r\n0\r\n\r\n" if b"chunked" in framing else bytes(5000)
    origin = await provider.origin(provider.once(OK + framing + b"\r\n\r\n" + body, stay=True))
    upstream.admit([origin])
    with pytest.raises(Fault) as caught:
        await (await upstream.send(origin, GET, b"", QUICK)).read(4999)
    assert (caught.value.kind, caught.value.retry) == (Kind.BAD_ANSWER, Retry.NEXT)


@pytest.mark.parametrize(
    "surplus", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad", b"HTTP/1.", b"\x00", b"\n\nx"]
)
async def test_net_14_bytes_after_the_end_belong_to_nobody(
    upstream: Upstream, provider: ScriptedProvider, surplus: bytes
) -> None:
    origin = await provider.origin(provider.once(HELLO + surplus, stay=True))
    upstream.admit([origin])
    assert await (await upstream.send(origin, GET, b"", QUICK)).read(100) == b"hello"
    assert upstream.stats()[origin].idle == 0
    await provider.until(lambda: provider.closed == 1)


async def test_net_14_bytes_on_an_idle_connection_close_it(upstream: Upstream, provider: ScriptedProvider) -> None:
    speak = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(HELLO)
        if peer.number == 1:
            await speak.wait()
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
        await peer.gone()

    origin = await provider.origin(talk)
    upstream.admit([origin])
    await (await upstream.send(origin, GET, b"", QUICK)).read(100)
    assert upstream.stats()[origin].idle == 1
    speak.set()
    await provider.until(lambda: provider.closed == 1)
    assert upstream.stats()[origin].idle == 0
    assert await (await upstream.send(origin, GET, b"", QUICK)).read(100) == b"hello"


async def test_net_14_one_byte_at_a_time_does_not_outlast_the_deadlines(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        for byte in OK + b"Content-Length: 100\r\n\r\n" + bytes(100):
            await peer.say(bytes([byte]))
            await asyncio.sleep(0.02 if peer.number == 1 else 0.002)

    origin = await provider.origin(talk)
    upstream.admit([origin])
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(Fault) as in_head:
        await upstream.send(origin, GET, b"", Timeouts(connect=1, first_byte=0.2, idle=10, total=10))
    response = await upstream.send(origin, GET, b"", Timeouts(connect=1, first_byte=10, idle=10, total=0.25))
    with pytest.raises(Fault) as in_body:
        await response.read(1000)
    assert loop.time() - began < 1.5
    assert (in_head.value.kind, in_head.value.retry) == (Kind.TIMEOUT, Retry.SAME)
    assert (in_body.value.kind, in_body.value.retry) == (Kind.TIMEOUT, Retry.NEXT)


async def test_net_14_a_reset_in_the_stream_is_a_truncation(upstream: Upstream, provider: ScriptedProvider) -> None:
    heard = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK + b"Transfer-Encoding: chunked\r\n\r\n6\r\ndata: \r\n")
        await heard.wait()
        peer.reset()

    origin = await provider.origin(talk)
    upstream.admit([origin])
    told = Told(heard)
    (await upstream.send(origin, GET, b"", QUICK)).attach(told)
    fault = await asyncio.wait_for(told.end, 2)
    assert isinstance(fault, Fault)
    assert fault.kind is Kind.TRUNCATED
    assert told.size == 6


async def test_net_14_a_huge_line_passes_through_in_bounded_memory(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(800):
            await peer.say(piece)
        await peer.say(b"0\r\n\r\n")

    origin = await provider.origin(talk)
    upstream.admit([origin])
    told = Told(asyncio.Event())
    tracemalloc.start()
    try:
        (await upstream.send(origin, GET, b"", QUICK)).attach(told)
        assert await asyncio.wait_for(told.end, 10) is None
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert told.size == 800 * 0x10000  # 52 MB
    assert peak < 8 << 20


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_net_12_a_redirect_is_an_answer_and_its_target_gets_no_connection(
    upstream: Upstream, provider: ScriptedProvider, status: int
) -> None:
    other = ScriptedProvider()
    target = await other.listen()
    answer = b"HTTP/1.1 %d Moved\r\nLocation: http://127.0.0.1:%d/x\r\nRefresh: 0\r\nContent-Length: 0\r\n\r\n"
    origin = await provider.origin(provider.once(answer % (status, target)))
    upstream.admit([origin])
    response = await upstream.send(origin, GET, b"", QUICK)
    assert response.status == status
    assert await response.read(100) == b""
    await provider.until(lambda: provider.closed == 1)
    assert other.opened == 0
    await other.close()


class Told:
    """A sink that counts bytes; `end` gives None or the fault."""

    def __init__(self, heard: asyncio.Event) -> None:
        self.size = 0
        self.heard = heard
        self.end: asyncio.Future[Fault | None] = asyncio.get_running_loop().create_future()

    def on_data(self, data: bytes) -> None:
        self.size += len(data)
        self.heard.set()

    def on_end(self) -> None:
        self.end.set_result(None)

    def on_fault(self, fault: Fault) -> None:
        self.end.set_result(fault)
