"""Limits of a key hold to the unit, however many requests come at once."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from ostiary.testing.factories import DEFAULT_COST, chat, configuration, deployment
from ostiary.testing.gateway import Gateway, eventually, running_gateway
from ostiary.testing.provider import FakeProvider
from ostiary.testing.raw import RawAnswer, fetch
from ostiary.testing.script import BEFORE_HEAD, Script


async def at_once(gateway: Gateway, key: str, model: str, count: int, **fields: object) -> list[RawAnswer]:
    body = chat(model, **fields)
    return await asyncio.gather(
        *(fetch(gateway.url, "POST", "/v1/chat/completions", body, key=key, seconds=30) for _ in range(count))
    )


async def test_requests_per_minute(gateway: Gateway, provider: FakeProvider, model: str) -> None:
    answers = await at_once(gateway, gateway.key(rpm_limit=20), model, 60)
    assert Counter(answer.status for answer in answers) == {200: 20, 429: 40}
    assert len(provider.seen(model)) == 20
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert 0 < float(refused.header("retry-after") or 0) <= 60
    assert refused.header("x-ratelimit-limit-requests") == "20"
    assert refused.header("x-ratelimit-remaining-requests") == "0"


async def test_the_remaining_requests_are_told(gateway: Gateway, model: str) -> None:
    key = gateway.key(rpm_limit=3)
    remaining = []
    for _ in range(3):
        (answer,) = await at_once(gateway, key, model, 1)
        remaining.append(answer.header("x-ratelimit-remaining-requests"))
    assert remaining == ["2", "1", "0"]


async def test_requests_at_the_same_time(gateway: Gateway, provider: FakeProvider, model: str) -> None:
    provider.script(model, Script(hold=BEFORE_HEAD))
    key = gateway.key(max_parallel_requests=3)
    asking = [asyncio.create_task(at_once(gateway, key, model, 1)) for _ in range(12)]
    refused: list[RawAnswer] = []
    for done in asyncio.as_completed(asking):
        refused += await done
        if len(refused) == 9:
            break
    assert {answer.status for answer in refused} == {429}
    assert len(provider.seen(model)) == 3
    provider.release(model)
    answers = [answer for (answer,) in await asyncio.gather(*asking)]
    assert Counter(answer.status for answer in answers) == {200: 3, 429: 9}
    assert len(provider.seen(model)) == 3
    (after,) = await at_once(gateway, key, model, 1)
    assert after.status == 200  # the places are free again


async def test_tokens_per_minute_are_never_exceeded(gateway: Gateway, provider: FakeProvider, model: str) -> None:
    key = gateway.key(tpm_limit=100)
    answers = await at_once(gateway, key, model, 40)
    served = sum(answer.status == 200 for answer in answers)
    assert {answer.status for answer in answers} == {200, 429}
    assert 1 <= served <= 100 // 15


async def test_dos_10_a_budget_is_never_exceeded_by_requests_at_once(
    gateway: Gateway, provider: FakeProvider, model: str
) -> None:
    budget = 0.001
    key = gateway.key(max_budget=budget)
    statuses: Counter[int] = Counter()
    for _ in range(3):
        answers = await at_once(gateway, key, model, 40)
        statuses.update(answer.status for answer in answers)
    served = statuses[200]
    assert set(statuses) == {200, 400}
    assert served == len(provider.seen(model))
    assert 30 <= served <= round(budget / DEFAULT_COST)
    spend = eventually(lambda: _spend(gateway, key, served * DEFAULT_COST))
    assert spend <= budget + 1e-12
    refused = next(answer for answer in answers if answer.status == 400)
    assert refused.json()["error"]["type"] == "budget_exceeded"


def _spend(gateway: Gateway, key: str, expected: float) -> float | None:
    spend = float(gateway.admin("GET", f"/key/info?key={key}")["info"]["spend"])
    return spend if spend == pytest.approx(expected) else None


async def test_a_budget_refills_when_its_window_ends(gateway: Gateway, model: str) -> None:
    key = gateway.key(max_budget=0.00004, budget_duration="2s")
    answers = await at_once(gateway, key, model, 1)
    while answers[-1].status == 200 and len(answers) < 4:
        answers += await at_once(gateway, key, model, 1)
    assert answers[-1].status == 400

    def refilled() -> bool:
        return asyncio.run(at_once(gateway, key, model, 1))[0].status == 200

    assert await asyncio.to_thread(eventually, refilled, 5, 0.1)


async def test_a_request_that_failed_costs_the_key_nothing(
    gateway: Gateway, provider: FakeProvider, model: str
) -> None:
    provider.script(model, Script(status=500))
    key = gateway.key(max_budget=0.0001)
    for _ in range(10):
        (answer,) = await at_once(gateway, key, model, 1)
        assert answer.status >= 500
    provider.script(model, Script())
    assert (await at_once(gateway, key, model, 1))[0].status == 200


async def test_an_unknown_price_is_refused_for_a_key_with_a_budget_and_said_in_the_record(
    provider: FakeProvider,
) -> None:
    row = deployment("mystery", provider.url, model="a-model-in-no-price-list")
    row["litellm_params"] = {k: v for k, v in row["litellm_params"].items() if "cost" not in k}
    free = deployment("gift", provider.url, input_cost_per_token=0, output_cost_per_token=0)
    with running_gateway(configuration(row, free, ostiary={"ledger": {"flush_seconds": 0.05}})) as gateway:
        poor, rich = gateway.key(max_budget=1), gateway.key()
        (refused,) = await at_once(gateway, poor, "mystery", 1)
        assert refused.status == 400
        (gift,) = await at_once(gateway, poor, "gift", 1)
        assert gift.status == 200
        (served,) = await at_once(gateway, rich, "mystery", 1)
        assert served.status == 200
        row = gateway.record(served.header("x-litellm-call-id"))
        assert row["metadata"]["price_state"] == "unknown"
