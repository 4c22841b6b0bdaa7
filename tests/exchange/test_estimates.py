"""What is reserved before anybody knows, and what the demo model answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from kit import PRICE, ask, deployment, key, once, room, run, snapshot
from kit_client import RecordingInbound
from kit_provider import DONE, JSON, Play

from ostiary.core.operation import Meter
from ostiary.core.price import FREE, Price, PriceState
from ostiary.core.record import Outcome
from ostiary.core.usage import Usage
from ostiary.gateway.estimate import BASE64_BODY, estimate_of, expected_usage, state_of

GPT = deployment("gpt")


def expected(body: bytes = b"x" * 300, cap: int | None = None, meter: Meter = Meter.TOKENS, **fields: Any) -> Usage:
    return expected_usage(body, cap, Usage(characters=7), meter, deployment("gpt", **fields), 1024)


def test_input_is_a_third_of_the_bytes_and_output_the_cap_or_a_default() -> None:
    assert expected() == Usage(101, 1024)
    assert expected(cap=50) == Usage(101, 50)
    assert expected(cap=0) == Usage(101, 0)


def test_neither_is_more_than_the_model_can() -> None:
    assert expected(max_input_tokens=40, max_output_tokens=10) == Usage(40, 10)
    assert expected(cap=10**9, max_output_tokens=10) == Usage(101, 10)
    assert expected(mode="embedding") == Usage(101, 0)


def test_pictures_in_the_body_are_not_counted_by_the_byte() -> None:
    picture = b'{"url":"data:image/png;base64,' + b"A" * 1_000_000 + b'"}'
    assert expected(picture).input == BASE64_BODY // 3 + 1
    assert expected(b"A" * 1_000_000).input == 1_000_000 // 3 + 1


@pytest.mark.parametrize(
    ("meter", "usage"),
    [
        (Meter.CHARACTERS, Usage(characters=7)),
        (Meter.IMAGES, Usage(images=1)),
        (Meter.SECONDS, Usage(milliseconds=1000)),
        (Meter.REQUESTS, Usage(5334)),  # the price is by tokens
    ],
)
def test_other_meters_have_rules_of_their_own(meter: Meter, usage: Usage) -> None:
    assert expected(b"x" * 16_000, meter=meter) == usage


def test_a_request_with_a_fee_of_its_own_is_no_tokens() -> None:
    assert expected(meter=Meter.REQUESTS, price=Price(input=5, request=7)) == Usage()


@pytest.mark.parametrize("meter", [Meter.IMAGES, Meter.CHARACTERS, Meter.SECONDS])
def test_a_price_without_a_rate_for_what_is_counted_is_unknown_until_the_answer_states_tokens(meter: Meter) -> None:
    assert state_of(GPT, meter) is PriceState.UNKNOWN
    assert state_of(GPT, Meter.TOKENS) is state_of(GPT, Meter.REQUESTS) is GPT.price_state
    assert state_of(deployment("free", price=FREE, price_state=PriceState.FREE), meter) is PriceState.FREE
    for price in (Price(image=1, character_in=1, second_out=1), Price(request=1)):
        assert state_of(deployment("rated", price=price), meter) is GPT.price_state


def test_the_floor_is_an_eighth_of_a_token_a_byte_and_costs_without_output() -> None:
    estimate = estimate_of(Usage(800, 100), GPT)
    assert (estimate.tokens_floor, estimate.tokens) == (300, 900)
    assert (estimate.cost_floor, estimate.cost) == (300 * 1000, 800 * 1000 + 100 * 2000)
    assert estimate_of(Usage(800, 100), deployment("x", price=None))[2:] == (0, 0)


def test_while_a_request_runs_its_estimate_is_reserved_and_then_returned() -> None:
    async def go() -> None:
        body = ask(max_tokens=10)
        slow = Play(b"{}", headers=[JSON], wait=5.0)
        with room(snapshot(GPT), slow, keys=[key(max_budget=10**9, tpm_limit=10_000)]) as made:
            task = made.begin(RecordingInbound(body))
            await asyncio.sleep(1)
            account = made.plane.keys.account("k1")
            assert account is not None
            into = len(body) // 3 + 1
            assert (account.reserved, account.limits.reserved) == (PRICE.cost(Usage(into, 10)), into + 10)
            assert made.ledger.leaks() == []
            await task
            assert made.record.usage == Usage(into, 10), "an answer that states no usage costs the estimate"
            assert not made.record.measured

    run(go())


# --- the demo model ---

DEMO = snapshot(deployment("demo", scheme="demo", host="", credential=None))


def demo(body: dict[str, Any], path: str = "/v1/chat/completions") -> RecordingInbound:
    return once(DEMO, inbound=RecordingInbound(json.dumps({"model": "demo", **body}).encode(), path=path))[1]


def test_the_demo_model_chats_in_one_piece_and_in_many() -> None:
    said = [{"role": "user", "content": "one two three"}]
    whole = json.loads(demo({"messages": said}).sent)
    assert whole["usage"]["prompt_tokens"] == 4
    text = whole["choices"][0]["message"]["content"]
    inbound = demo({"messages": said, "stream": True})
    events = [json.loads(row[6:]) for row in inbound.sent.split(b"\n\n") if row.startswith(b"data: {")]
    deltas = [choice["delta"].get("content") or "" for each in events for choice in each["choices"]]
    assert "".join(deltas) == text
    assert inbound.sent.endswith(DONE)


def test_the_demo_model_completes_and_embeds() -> None:
    whole = json.loads(demo({"prompt": "hello"}, "/v1/completions").sent)
    assert whole["object"] == "text_completion"
    inbound = demo({"prompt": "hello", "stream": True}, "/v1/completions")
    assert inbound.sent.endswith(DONE)
    assert b'"usage"' not in inbound.sent
    rows = json.loads(demo({"input": ["a", "b"]}, "/v1/embeddings").sent)["data"]
    assert [row["index"] for row in rows] == [0, 1]
    assert len(json.loads(demo({"input": "a"}, "/v1/embeddings").sent)["data"]) == 1


@pytest.mark.parametrize(
    ("body", "path", "status"),
    [
        ({"input": "x"}, "/v1/moderations", 404),
        ({"input": 7}, "/v1/embeddings", 400),
        ({"messages": 7}, "/v1/chat/completions", 400),
    ],
)
def test_the_demo_model_says_what_it_cannot_do(body: dict[str, Any], path: str, status: int) -> None:
    inbound = demo(body, path)
    assert (inbound.status, bool(inbound.error["message"])) == (status, True)


def test_the_demo_model_waits_for_a_client_that_does_not_read_and_stops_for_one_that_leaves() -> None:
    async def go() -> None:
        with room(DEMO) as made:
            inbound = RecordingInbound(ask("demo", stream=True))
            inbound.writable = False
            task = made.begin(inbound)
            await asyncio.sleep(60)
            assert len(inbound.log) < 5
            assert inbound.on_writable is not None
            inbound.on_writable()
            await asyncio.sleep(0.1)
            assert len(inbound.log) >= 5
            inbound.leave()
            await asyncio.wait([task])
            assert made.record.outcome is Outcome.CLIENT_GONE

    run(go())
