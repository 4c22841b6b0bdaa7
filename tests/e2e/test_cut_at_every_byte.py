"""A provider that breaks off at any byte whatever: never a whole answer, never a false end, always one record."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from ostiary.testing.factories import chat
from ostiary.testing.gateway import Gateway, eventually
from ostiary.testing.provider import FakeProvider
from ostiary.testing.raw import RawAnswer, fetch
from ostiary.testing.script import Script

AT_ONCE = 16


async def answers(
    gateway: Gateway, provider: FakeProvider, key: str, model: str, cuts: range, stream: bool
) -> dict[int, RawAnswer]:
    """The answer to each cut, every one by a model of its own."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(cut: int) -> RawAnswer:
        name = f"{model}-{cut}"
        provider.script(name, Script(cut_byte=cut))
        async with places:
            return await fetch(gateway.url, "POST", "/v1/chat/completions", chat(name, stream=stream), key=key)

    return dict(zip(cuts, await asyncio.gather(*(one(cut) for cut in cuts)), strict=True))


async def whole(gateway: Gateway, provider: FakeProvider, key: str, model: str, stream: bool) -> int:
    """How many bytes an uncut answer has, for the longest name that the cuts use."""
    name = f"{model}-9999"
    await fetch(gateway.url, "POST", "/v1/chat/completions", chat(name, stream=stream), key=key)
    return provider.seen(name)[0].bytes_sent


def outcomes(gateway: Gateway, key: str, expected: int) -> Counter[str]:
    """How the requests of a key ended, once all are on record."""
    rows = eventually(lambda: found if len(found := gateway.records(api_key=key)) >= expected else None, 20, 0.2)
    assert len(rows) == expected
    info = gateway.admin("GET", f"/key/info?key={key}")["info"]
    assert round(info["spend"] * 1e9) == sum(round(row["spend"] * 1e9) for row in rows)
    return Counter(row["metadata"]["outcome"] for row in rows)


async def test_a_document_cut_at_every_byte_is_an_error(
    gateway: Gateway, provider: FakeProvider, key: str, model: str
) -> None:
    length = await whole(gateway, provider, key, model, stream=False)
    cuts = range(1, length - 20)  # names are shorter than in the measured answer
    for cut, answer in (await answers(gateway, provider, key, model, cuts, stream=False)).items():
        assert answer.status in (502, 503), (cut, answer)
        assert answer.complete
    assert outcomes(gateway, key, len(cuts) + 1) == {"completed": 1, "failed": len(cuts)}


async def test_a_stream_cut_at_every_byte_has_no_false_end(
    gateway: Gateway, provider: FakeProvider, key: str, model: str
) -> None:
    length = await whole(gateway, provider, key, model, stream=True)
    cuts = range(1, length, 1)
    finished = 0
    for cut, answer in (await answers(gateway, provider, key, model, cuts, stream=True)).items():
        if "[DONE]" in answer.events():  # only where the provider had said so: in the last bytes, of pure framing
            assert length - cut < 120, cut
            finished += 1
        else:
            assert answer.status >= 500 or not answer.complete or '"error"' in answer.events()[-1], (cut, answer)
    counted = outcomes(gateway, key, len(cuts) + 1)
    assert set(counted) <= {"completed", "truncated", "failed"}
    assert counted["completed"] <= finished + 1


@pytest.mark.parametrize("stream", [True, False])
async def test_the_connection_of_a_broken_answer_is_not_used_again(
    gateway: Gateway, provider: FakeProvider, key: str, model: str, stream: bool
) -> None:
    for cut in (30, 200, 500):
        broken, sound = f"{model}-{cut}", f"{model}-{cut}-sound"
        provider.script(broken, Script(cut_byte=cut))
        await fetch(gateway.url, "POST", "/v1/chat/completions", chat(broken, stream=stream), key=key)
        answer = await fetch(
            gateway.url, "POST", "/v1/chat/completions", chat(sound, "nonce-5", stream=stream), key=key
        )
        assert answer.status == 200
        assert provider.seen(sound)[0].connection != provider.seen(broken)[0].connection
