"""Streams cost the gateway a bounded amount of memory, whoever is slow, and end when nobody listens."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from process_figures import MEGABYTE, resident

from ostiary.testing.factories import chat
from ostiary.testing.gateway import Gateway
from ostiary.testing.provider import FakeProvider
from ostiary.testing.raw import RawConnection, fetch, request
from ostiary.testing.script import Script

FLOOD = Script(text="x" * (64 * MEGABYTE), pieces=4096)


async def test_dos_07_a_slow_reader_of_a_fast_stream_slows_the_provider_and_fills_no_memory(
    gateway: Gateway, provider: FakeProvider, key: str, model: str
) -> None:
    provider.script(model, FLOOD)
    before = resident(gateway.process.pid)
    async with RawConnection(gateway.url) as link:
        await link.send(request("POST", "/v1/chat/completions", chat(model, stream=True), key=key))
        await provider.until(lambda: provider.seen(model) and provider.seen(model)[0].bytes_sent > 0)
        sent = await _stalled(provider, model)
        assert sent < 32 * MEGABYTE  # what kernels and one bounded buffer on the way hold
        assert resident(gateway.process.pid) - before < 20 * MEGABYTE
        left = time.monotonic()
    await provider.until(lambda: provider.seen(model)[0].outcome == "aborted")
    assert provider.seen(model)[0].ended - left < 2.0


async def _stalled(provider: FakeProvider, model: str) -> int:
    """What the provider had sent when it could send no more for half a second."""
    sent, since = -1, time.monotonic()
    while time.monotonic() - since < 0.5:
        now = provider.seen(model)[0].bytes_sent
        if now != sent:
            sent, since = now, time.monotonic()
        await asyncio.sleep(0.02)
    return sent


async def test_dos_07_a_slow_reader_gets_everything_in_the_end(
    gateway: Gateway, provider: FakeProvider, key: str, model: str
) -> None:
    provider.script(model, Script(text="y" * (8 * MEGABYTE), pieces=512))
    async with RawConnection(gateway.url) as link:
        await link.send(request("POST", "/v1/chat/completions", chat(model, stream=True), key=key))
        await provider.until(lambda: provider.seen(model) and provider.seen(model)[0].bytes_sent > 0)
        await _stalled(provider, model)
        answer = await link.receive(seconds=30)
    assert answer.complete
    assert answer.body.count(b"y" * 1000) >= 512


async def test_dos_07_a_vanished_client_frees_its_stream(
    gateway: Gateway, provider: FakeProvider, key: str, model: str
) -> None:
    provider.script(model, Script(hold=2))
    links = [RawConnection(gateway.url) for _ in range(100)]
    for link in links:
        await link.__aenter__()
        await link.send(request("POST", "/v1/chat/completions", chat(model, stream=True), key=key))
    await provider.until(lambda: sum(one.events_sent == 2 for one in provider.seen(model)) == 100)
    left = time.monotonic()
    for link in links:
        link.cut()
    await provider.until(lambda: all(one.outcome == "aborted" for one in provider.seen(model)))
    assert max(one.ended for one in provider.seen(model)) - left < 2.0


async def test_dos_07_five_hundred_streams_meet_the_keys_cap(
    gateway: Gateway, provider: FakeProvider, model: str
) -> None:
    provider.script(model, Script(hold=2))
    key = gateway.key(max_parallel_requests=10)
    body = chat(model, stream=True)
    asking = [
        asyncio.create_task(fetch(gateway.url, "POST", "/v1/chat/completions", body, key=key, seconds=30))
        for _ in range(500)
    ]
    for refused, done in enumerate(asyncio.as_completed(asking), 1):
        assert (await done).status == 429
        if refused == 490:
            break
    await provider.until(lambda: len(provider.seen(model)) >= 10)
    assert len(provider.seen(model)) == 10
    provider.release(model)
    assert Counter(answer.status for answer in await asyncio.gather(*asking)) == {200: 10, 429: 490}
