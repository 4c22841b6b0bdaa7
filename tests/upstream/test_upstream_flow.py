"""Deadlines, cancelling, and pressure in both directions."""

from __future__ import annotations

import asyncio

import pytest
from scripted_provider import GET, HELLO, QUICK, Peer, ScriptedProvider

from ostiary.core.fault import Fault, Kind, Retry
from ostiary.core.snapshot import Timeouts
from ostiary.gateway.upstream.pool import Upstream
from ostiary.gateway.upstream.response import UNREAD_BYTES, Response

OPEN_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
KERNEL = 16 << 20  # more than the kernel's buffers of one connection hold on loopback
PIECE = b"4000\r\n" + bytes(0x4000) + b"\r\n"


class Sink:
    """Collects; what `on_data` does besides is up to the test."""

    def __init__(self) -> None:
        self.size = 0
        self.pieces: list[bytes] = []
        self.arrived = asyncio.Event()
        self.over = asyncio.Event()
        self.fault: Fault | None = None

    def on_data(self, data: bytes) -> None:
        self.size += len(data)
        self.pieces.append(data[:32])
        self.arrived.set()

    def on_end(self) -> None:
        self.over.set()

    def on_fault(self, fault: Fault) -> None:
        self.fault = fault
        self.over.set()


async def hush(peer: Peer) -> None:
    """Takes the request and says nothing."""
    await peer.request()
    await peer.gone()


async def pour(peer: Peer) -> None:
    """Streams until the client leaves; `peer.poured` counts."""
    await peer.request()
    await peer.say(OPEN_HEAD)
    while True:
        await peer.say(PIECE)
        poured[0] += len(PIECE)


poured = [0]


@pytest.fixture(autouse=True)
def _nothing_poured() -> None:
    poured[0] = 0


async def still(seconds: float = 0.15) -> int:
    """Waits until the provider can send no more; how much it sent."""
    before = -1
    while before != poured[0]:
        before = poured[0]
        await asyncio.sleep(seconds)
    return before


# deadlines


async def test_silence_before_the_head_ends_at_the_first_byte_deadline(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    origin = await provider.origin(hush)
    upstream.admit([origin])
    with pytest.raises(Fault) as caught:
        await upstream.send(origin, GET, b"", Timeouts(first_byte=0.15, idle=9, total=9))
    assert (caught.value.kind, caught.value.retry) == (Kind.TIMEOUT, Retry.SAME)
    await provider.until(lambda: provider.closed == 1)


async def test_silence_in_the_body_ends_at_the_idle_deadline(upstream: Upstream, provider: ScriptedProvider) -> None:
    origin = await provider.origin(provider.once(OPEN_HEAD + b"1\r\nx\r\n", stay=True))
    upstream.admit([origin])
    sink = Sink()
    (await upstream.send(origin, GET, b"", Timeouts(first_byte=9, idle=0.15, total=9))).attach(sink)
    await asyncio.wait_for(sink.over.wait(), 2)
    assert sink.fault is not None
    assert (sink.fault.kind, sink.fault.retry) == (Kind.TIMEOUT, Retry.NEXT)
    await provider.until(lambda: provider.closed == 1)


async def test_each_arrival_starts_the_idle_deadline_anew(upstream: Upstream, provider: ScriptedProvider) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(OPEN_HEAD)
        for _ in range(8):
            await asyncio.sleep(0.08)
            await peer.say(b"1\r\nx\r\n")
        await peer.say(b"0\r\n\r\n")

    origin = await provider.origin(talk)
    upstream.admit([origin])
    response = await upstream.send(origin, GET, b"", Timeouts(first_byte=9, idle=0.3, total=9))
    assert await response.read(100) == b"x" * 8


async def test_the_idle_deadline_stands_still_while_we_do_not_read(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    finish = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(OPEN_HEAD + b"1\r\nx\r\n")
        await finish.wait()
        await peer.say(b"0\r\n\r\n")

    origin = await provider.origin(talk)
    upstream.admit([origin])
    sink = Sink()
    response = await upstream.send(origin, GET, b"", Timeouts(first_byte=9, idle=0.1, total=9))
    response.attach(sink)
    await sink.arrived.wait()
    response.pause()
    await asyncio.sleep(0.3)
    assert not sink.over.is_set()
    finish.set()
    response.resume()
    await asyncio.wait_for(sink.over.wait(), 2)
    assert sink.fault is None


async def test_the_idle_deadline_runs_again_after_a_pause(upstream: Upstream, provider: ScriptedProvider) -> None:
    origin = await provider.origin(provider.once(OPEN_HEAD + b"1\r\nx\r\n", stay=True))
    upstream.admit([origin])
    sink = Sink()
    response = await upstream.send(origin, GET, b"", Timeouts(first_byte=9, idle=0.1, total=9))
    response.attach(sink)
    response.pause()
    await asyncio.sleep(0.2)
    response.resume()
    await asyncio.wait_for(sink.over.wait(), 2)
    assert sink.fault is not None
    assert sink.fault.kind is Kind.TIMEOUT


async def test_the_total_deadline_ends_even_a_paused_answer(upstream: Upstream, provider: ScriptedProvider) -> None:
    origin = await provider.origin(provider.once(OPEN_HEAD + b"1\r\nx\r\n", stay=True))
    upstream.admit([origin])
    sink = Sink()
    response = await upstream.send(origin, GET, b"", Timeouts(first_byte=9, idle=9, total=0.2))
    response.attach(sink)
    response.pause()
    await asyncio.wait_for(sink.over.wait(), 2)
    assert sink.fault is not None
    assert sink.fault.kind is Kind.TIMEOUT


async def test_a_request_that_the_provider_takes_slowly_meets_no_deadline_but_one_it_does_not_take_does(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    body = bytes(KERNEL * 2)
    head = b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: %d\r\n\r\n" % len(body)

    async def slow(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        left = len(body)
        while left:
            left -= len(await peer.reader.read(min(left, 2 << 20)))
            await asyncio.sleep(0.003)
        await peer.say(HELLO)
        await peer.gone()

    async def never(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(5)

    origin = await provider.origin(slow)
    upstream.admit([origin])
    timeouts = Timeouts(first_byte=0.4, idle=0.4, total=9)
    response = await upstream.send(origin, head, body, timeouts)
    assert await response.read(100) == b"hello"
    provider.talk = never
    await response.read(0)
    for idle in list(upstream._pools[origin].idle):
        idle.abort()
    with pytest.raises(Fault) as caught:
        await upstream.send(origin, head, body, timeouts)
    assert caught.value.kind is Kind.TIMEOUT


# cancelling


async def test_cancelling_a_send_closes_the_connection_at_once(upstream: Upstream, provider: ScriptedProvider) -> None:
    origin = await provider.origin(hush)
    upstream.admit([origin])
    task = asyncio.create_task(upstream.send(origin, GET, b"", QUICK))
    await provider.until(lambda: provider.opened == 1)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await provider.until(lambda: provider.closed == 1, 1.0)
    assert upstream.stats()[origin].busy == 0


async def test_cancelling_a_read_closes_the_connection_at_once(upstream: Upstream, provider: ScriptedProvider) -> None:
    origin = await provider.origin(provider.once(OPEN_HEAD, stay=True))
    upstream.admit([origin])
    response = await upstream.send(origin, GET, b"", QUICK)
    task = asyncio.create_task(response.read(100))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await provider.until(lambda: provider.closed == 1, 1.0)
    assert not response.complete


async def test_aborting_a_stream_closes_the_connection_at_once_and_tells_the_sink_nothing(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    origin = await provider.origin(pour)
    upstream.admit([origin])
    sink = Sink()
    response = await upstream.send(origin, GET, b"", QUICK)
    response.attach(sink)
    await sink.arrived.wait()
    response.abort()
    response.abort()
    size = sink.size
    await provider.until(lambda: provider.closed == 1, 1.0)
    assert (sink.size, sink.fault, sink.over.is_set()) == (size, None, False)


async def test_a_sink_may_abort_from_within(upstream: Upstream, provider: ScriptedProvider) -> None:
    origin = await provider.origin(provider.once(OPEN_HEAD, stay=True))
    upstream.admit([origin])
    provider.talk = provider.once(OPEN_HEAD + PIECE + b"0\r\n\r\n", stay=True)
    response = await upstream.send(origin, GET, b"", QUICK)

    class Leaver(Sink):
        def on_data(self, data: bytes) -> None:
            super().on_data(data)
            response.abort()

    sink = Leaver()
    response.attach(sink)
    if not response.complete:
        await provider.until(lambda: provider.closed == 1, 1.0)
        assert not sink.over.is_set()


async def test_a_send_cancelled_after_its_answer_came_does_not_harm_the_next_user_of_the_connection(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    origin = await provider.origin(provider.always(HELLO))
    upstream.admit([origin])
    for _ in range(200):
        task = asyncio.create_task(upstream.send(origin, GET, b"", QUICK))
        while not task.done() and not (pool := upstream._pools[origin]).idle:
            await asyncio.sleep(0)
        second = None if task.done() else asyncio.create_task(upstream.send(origin, GET, b"", QUICK))
        task.cancel()
        if second is not None:
            assert await (await second).read(10) == b"hello"
        await asyncio.gather(task, return_exceptions=True)
        assert pool.count <= 2


async def test_cancelling_while_the_connection_is_being_made_leaves_nothing(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    origin = await provider.origin(hush)
    upstream.admit([origin])
    for turns in range(12):
        task = asyncio.create_task(upstream.send(origin, GET, b"", QUICK))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await provider.until(lambda: provider.closed == provider.opened)
    assert upstream.stats()[origin].busy == 0
    await asyncio.sleep(0.02)
    assert upstream.connections == 0


async def test_an_abort_after_the_end_leaves_the_connection_to_others(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    origin = await provider.origin(provider.always(HELLO))
    upstream.admit([origin])
    response = await upstream.send(origin, GET, b"", QUICK)
    await response.read(10)
    other = await upstream.send(origin, GET, b"", QUICK)
    response.pause()
    response.abort()
    assert await other.read(10) == b"hello"
    assert provider.opened == 1


# pressure


async def test_an_answer_that_nobody_reads_makes_the_provider_wait(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    origin = await provider.origin(pour)
    upstream.admit([origin])
    response = await upstream.send(origin, GET, b"", QUICK)
    assert await still() < KERNEL
    assert UNREAD_BYTES < response._size < UNREAD_BYTES + (512 << 10)
    with pytest.raises(Fault, match="bad_answer"):
        await response.read(2 << 20)


async def test_a_paused_sink_makes_the_provider_wait_and_a_resumed_one_hears_on(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    origin = await provider.origin(pour)
    upstream.admit([origin])
    sink = Sink()
    response = await upstream.send(origin, GET, b"", QUICK)
    response.attach(sink)
    await sink.arrived.wait()
    response.pause()
    response.pause()
    size = sink.size
    sent = await still()
    assert sent < size + KERNEL
    assert sink.size <= size + (512 << 10)  # at most what was already on its way through the loop
    response.resume()
    response.resume()
    sink.arrived.clear()
    await asyncio.wait_for(sink.arrived.wait(), 2)
    response.abort()


async def test_a_sink_attached_late_hears_everything_in_order_and_may_pause_at_once(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(OPEN_HEAD)
        for i in range(40_000):
            await peer.say(b"20\r\n%032d\r\n" % i)
        await peer.say(b"0\r\n\r\n")

    origin = await provider.origin(talk)
    upstream.admit([origin])
    response = await upstream.send(origin, GET, b"", QUICK)
    await asyncio.sleep(0.1)
    loop = asyncio.get_running_loop()

    class Slow(Sink):
        def __init__(self, response: Response) -> None:
            super().__init__()
            self.whole: list[bytes] = []
            self.response = response

        def on_data(self, data: bytes) -> None:
            self.whole.append(data)
            self.response.pause()
            loop.call_soon(self.response.resume)

    sink = Slow(response)
    response.attach(sink)
    await asyncio.wait_for(sink.over.wait(), 10)
    assert sink.fault is None
    assert b"".join(sink.whole) == b"".join(b"%032d" % i for i in range(40_000))
    assert upstream.stats()[origin].busy == 0


async def test_a_sink_attached_after_the_end_or_after_a_failure_is_told_both(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    origin = await provider.origin(provider.once(HELLO))
    upstream.admit([origin])
    sink = Sink()
    response = await upstream.send(origin, GET, b"", QUICK)
    await asyncio.sleep(0.05)
    response.attach(sink)
    assert (sink.pieces, sink.over.is_set(), sink.fault) == ([b"hello"], True, None)
    provider.talk = provider.once(OPEN_HEAD + b"5\r\nhello\r\n")
    sink = Sink()
    response = await upstream.send(origin, GET, b"", QUICK)
    await provider.until(lambda: provider.closed == 2)
    await asyncio.sleep(0.05)
    response.attach(sink)
    assert sink.pieces == [b"hello"]
    assert sink.fault is not None
    assert sink.fault.kind is Kind.TRUNCATED


async def test_a_paused_answer_whose_end_is_here_leaves_a_reading_connection_behind(
    upstream: Upstream, provider: ScriptedProvider
) -> None:
    origin = await provider.origin(provider.always(OPEN_HEAD + b"5\r\nhello\r\n0\r\n\r\n"))
    upstream.admit([origin])
    for _ in range(3):
        response = await upstream.send(origin, GET, b"", QUICK)
        response.pause()
        response.attach(Sink())
        assert response.complete
    assert provider.opened == 1
