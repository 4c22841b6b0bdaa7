"""Five thousand requests at once over shared upstream connections: each caller gets his own answer."""

from __future__ import annotations

import asyncio
import json
import random
import resource

from ostiary.testing.factories import chat
from ostiary.testing.gateway import Gateway, eventually
from ostiary.testing.provider import FakeProvider
from ostiary.testing.raw import RawConnection
from ostiary.testing.script import Script

REQUESTS, CONNECTIONS = 5000, 500


async def test_each_of_5000_concurrent_answers_carries_its_own_nonce(
    gateway: Gateway, provider: FakeProvider, key: str, model: str
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * CONNECTIONS)), hard))
    provider.script(model, Script(pieces=4))
    numbers = iter(range(REQUESTS))
    wrong: list[tuple[int, bytes]] = []
    calls: set[str] = set()

    async def caller(seed: int) -> None:
        dice = random.Random(seed)
        async with RawConnection(gateway.url) as link:
            for number in numbers:
                streamed = dice.random() < 0.5
                nonce = f"nonce-{number:05d}x{dice.getrandbits(64):x}"
                answer = await link.ask(
                    "POST", "/v1/chat/completions", chat(model, nonce, stream=streamed), key=key, seconds=60
                )
                calls.add(answer.header("x-litellm-call-id") or "")
                text = "".join(_pieces(answer.events())) if streamed else _text(answer.body)
                if not answer.complete or text != nonce:
                    wrong.append((number, answer.body))

    await asyncio.gather(*(caller(seed) for seed in range(CONNECTIONS)))
    assert wrong == []
    assert len(calls) == REQUESTS
    # and the ledger has one row for each, at the right price
    info = eventually(lambda: _spent(gateway, key) or None, 30)
    assert round(info * 1e9) == REQUESTS * 20_000


def _spent(gateway: Gateway, key: str) -> float:
    spend = float(gateway.admin("GET", f"/key/info?key={key}")["info"]["spend"])
    return spend if round(spend * 1e9) >= REQUESTS * 20_000 else 0.0


def _text(body: bytes) -> str:
    text: str = json.loads(body)["choices"][0]["message"]["content"]
    return text


def _pieces(events: list[str]) -> list[str]:
    chunks = [json.loads(event) for event in events if event != "[DONE]"]
    return [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"]]
