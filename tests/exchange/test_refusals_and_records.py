"""Each phase of a request can end it. Who is refused, with what answer, and what the ledger keeps of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from kit import PRICE, ask, deployment, key, once, room, run, snapshot
from kit_client import RecordingInbound
from kit_provider import JSON, Play, broken, reply

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.key import VirtualKey
from ostiary.core.price import Price, PriceState
from ostiary.core.record import Outcome
from ostiary.core.snapshot import LimitSettings
from ostiary.core.usage import NOTHING, Usage

GPT = deployment("gpt")


def test_an_answered_request_is_recorded_with_the_providers_own_numbers() -> None:
    made, inbound = once(snapshot(GPT), reply((10, 5)))
    assert inbound.status == 200
    record = made.record
    assert (record.outcome, record.status, record.fault) == (Outcome.COMPLETED, 200, "")
    assert (record.usage, record.measured) == (Usage(10, 5), True)
    assert record.cost == 10 * 1000 + 5 * 2000
    assert (record.key_id, record.model, record.deployment) == ("k1", "gpt", "d-gpt")
    assert (record.provider, record.upstream_model, record.price) == ("openai", "gpt", PriceState.LISTED)
    assert record.attempts == 1
    assert inbound.head["x-litellm-call-id"] == record.id
    assert inbound.head["x-litellm-response-cost"] == "0.00002"
    assert inbound.head["x-litellm-key-spend"] == "0.00002"


@pytest.mark.parametrize("headers", [[], [(b"authorization", b"Bearer sk-wrong")], [(b"api-key", b"\xff")]])
def test_without_a_key_of_ours_there_is_nobody_to_charge_and_no_record(headers: list[tuple[bytes, bytes]]) -> None:
    made, inbound = once(snapshot(GPT), inbound=RecordingInbound(ask(), key=None, headers=headers))
    assert inbound.status == 401
    assert inbound.head["www-authenticate"] == "Bearer"
    assert inbound.error["type"] == "auth_error"
    assert made.settled == []
    assert [fault.kind for fault in made.refused] == [Kind.UNAUTHENTICATED]
    assert made.upstream.sent == []


def test_a_store_that_cannot_be_asked_is_503_never_401() -> None:
    async def go() -> RecordingInbound:
        with room(snapshot(GPT)) as made:
            made.keys.failure = Fault(Kind.UNAVAILABLE, "the store is away", origin=Origin.GATEWAY)
            return await made.serve(RecordingInbound(ask()))

    inbound = run(go())
    assert inbound.status == 503


SPOKEN = deployment("tts", mode="audio_speech")
REFUSALS: list[tuple[str, VirtualKey, RecordingInbound, Kind, Outcome]] = [
    ("a blocked key", key(blocked=True), RecordingInbound(ask()), Kind.BLOCKED_KEY, Outcome.BLOCKED),
    ("an expired key", key(expires=5.0), RecordingInbound(ask()), Kind.EXPIRED_KEY, Outcome.BLOCKED),
    (
        "another route",
        key(allowed_routes=("/v1/embeddings",)),
        RecordingInbound(ask()),
        Kind.ROUTE_DENIED,
        Outcome.BLOCKED,
    ),
    ("no JSON", key(), RecordingInbound(b"{"), Kind.MALFORMED, Outcome.FAILED),
    ("no model", key(), RecordingInbound(b"{}"), Kind.INVALID_REQUEST, Outcome.FAILED),
    ("an unknown model", key(), RecordingInbound(ask("nope")), Kind.UNKNOWN_MODEL, Outcome.FAILED),
    ("a model of others", key(models=("tts",)), RecordingInbound(ask()), Kind.MODEL_DENIED, Outcome.BLOCKED),
    ("a host of his own", key(), RecordingInbound(ask(api_base="http://x")), Kind.INVALID_REQUEST, Outcome.FAILED),
    ("no budget left", key(max_budget=5, spend=5), RecordingInbound(ask()), Kind.BUDGET_EXCEEDED, Outcome.BLOCKED),
    ("no requests left", key(rpm_limit=0), RecordingInbound(ask()), Kind.RATE_LIMITED, Outcome.BLOCKED),
    ("no tokens left", key(tpm_limit=1), RecordingInbound(ask()), Kind.RATE_LIMITED, Outcome.BLOCKED),
    ("none in parallel", key(max_parallel=0), RecordingInbound(ask()), Kind.RATE_LIMITED, Outcome.BLOCKED),
    ("a bad count", key(), RecordingInbound(ask(max_tokens="x")), Kind.INVALID_REQUEST, Outcome.FAILED),
    (
        "a listing of files",
        key(),
        RecordingInbound(method="GET", path="/v1/files"),
        Kind.ROUTE_DENIED,
        Outcome.BLOCKED,
    ),
]


@pytest.mark.parametrize(
    ("who", "inbound", "kind", "outcome"), [row[1:] for row in REFUSALS], ids=[r[0] for r in REFUSALS]
)
def test_a_refusal_is_answered_recorded_and_free(
    who: VirtualKey, inbound: RecordingInbound, kind: Kind, outcome: Outcome
) -> None:
    made, inbound = once(snapshot(GPT, SPOKEN), keys=[who], inbound=inbound)
    fault = Fault(kind, "")
    assert inbound.status == fault.status
    assert inbound.error["type"] == fault.type
    assert made.upstream.sent == []
    record = made.record
    assert (record.outcome, record.status, record.fault) == (outcome, fault.status, kind.value)
    assert (record.usage, record.cost, record.measured) == (NOTHING, 0, True)
    assert inbound.journal_at_end == [record], "the record is in the journal before the answer leaves"


@pytest.mark.parametrize(
    ("content_type", "status"),
    [(b"text/plain", 415), (b"multipart/form-data; boundary=x", 415), (b"Application/JSON; charset=utf-8", 200)],
)
def test_a_json_route_takes_json(content_type: bytes, status: int) -> None:
    inbound = RecordingInbound(ask())
    inbound.headers[2] = (b"content-type", content_type)
    _, inbound = once(snapshot(GPT), reply(), inbound=inbound)
    assert inbound.status == status


def test_a_body_that_does_not_come_is_the_clients_fault_and_recorded() -> None:
    inbound = RecordingInbound(ask())
    inbound.body_fault = Fault(Kind.CLIENT_TIMEOUT, "slow")
    made, inbound = once(snapshot(GPT), inbound=inbound)
    assert (inbound.status, made.record.outcome) == (408, Outcome.FAILED)


def test_the_body_cap_is_the_snapshots() -> None:
    policy = snapshot(GPT, limits=LimitSettings(max_body=10))
    made, inbound = once(policy)
    assert (inbound.status, made.record.fault) == (413, "too_large")


def test_a_refusal_tells_how_much_is_left() -> None:
    _, inbound = once(snapshot(GPT), keys=[key(rpm_limit=0)])
    assert inbound.head["x-ratelimit-limit-requests"] == "0"
    assert inbound.head["x-ratelimit-remaining-requests"] == "0"
    assert int(inbound.head["retry-after"]) >= 1


def test_the_answer_tells_what_is_left_of_the_limits() -> None:
    _, inbound = once(snapshot(GPT), reply((10, 5)), keys=[key(rpm_limit=7, tpm_limit=1000)])
    assert inbound.head["x-ratelimit-remaining-requests"] == "6"
    assert inbound.head["x-ratelimit-remaining-tokens"] == "985"


# --- prices ---

UNPRICED = deployment("raw", price=None, price_state=PriceState.UNKNOWN)


def test_an_unknown_price_is_visible_in_the_record_of_a_key_without_a_budget() -> None:
    made, inbound = once(snapshot(UNPRICED), reply(), inbound=RecordingInbound(ask("raw")))
    assert inbound.status == 200
    assert (made.record.price, made.record.cost) == (PriceState.UNKNOWN, 0)
    assert made.record.usage == Usage(10, 5)


def test_an_unknown_price_is_refused_to_a_key_with_a_budget() -> None:
    made, inbound = once(snapshot(UNPRICED), keys=[key(max_budget=10**12)], inbound=RecordingInbound(ask("raw")))
    assert (inbound.status, inbound.error["type"]) == (400, "budget_exceeded")
    assert made.record.fault == "unknown_price"


def test_of_a_mixed_group_a_key_with_a_budget_gets_the_priced_deployments() -> None:
    policy = snapshot(deployment("gpt", "a", price=None, price_state=PriceState.UNKNOWN), deployment("gpt", "b"))
    for draw in (0.0, 0.99):
        made, inbound = once(policy, reply(), keys=[key(max_budget=10**12)])
        assert (inbound.status, made.record.deployment, draw) == (200, "b", draw)


def test_a_price_without_a_rate_for_what_was_used_is_unknown() -> None:
    made, _ = once(snapshot(deployment("gpt", price=Price(image=5))), reply((10, 5)))
    assert (made.record.price, made.record.cost) == (PriceState.UNKNOWN, 0)


def test_a_free_deployment_costs_nothing_and_serves_a_spent_budget() -> None:
    free = deployment("gpt", price=Price(), price_state=PriceState.FREE)
    made, inbound = once(snapshot(free), reply(), keys=[key(max_budget=5, spend=5)])
    assert (inbound.status, made.record.cost) == (200, 0)


def test_a_spent_budget_is_not_opened_by_a_free_neighbour() -> None:
    free = deployment("gpt", "free", price=Price(), price_state=PriceState.FREE)
    who = key(max_budget=5, spend=5)
    made, inbound = once(snapshot(free, deployment("gpt", "paid")), reply(), keys=[who])
    assert (inbound.status, made.record.fault) == (400, "budget_exceeded")


def test_a_spent_budget_is_not_opened_by_a_fallback() -> None:
    free = deployment("free", price=Price(), price_state=PriceState.FREE)
    policy = snapshot(free, GPT, routing={"fallbacks": {"free": ("gpt",)}, "num_retries": 0})
    failing = reply()
    failing.raises = broken(Kind.CONNECT)
    who = key(max_budget=5, spend=5)
    made, inbound = once(policy, failing, reply(), keys=[who], inbound=RecordingInbound(ask("free")))
    assert inbound.status == 502
    assert [sent.origin.host for sent in made.upstream.sent] == ["d-free.test"]


def test_a_fallback_of_unknown_price_does_not_serve_a_key_with_a_budget() -> None:
    policy = snapshot(GPT, UNPRICED, routing={"fallbacks": {"gpt": ("raw",)}, "num_retries": 0})
    failing = reply()
    failing.raises = broken(Kind.CONNECT)
    made, inbound = once(policy, failing, reply(), keys=[key(max_budget=10**12)])
    assert inbound.status == 502
    assert len(made.upstream.sent) == 1


def test_a_dearer_fallback_reserves_its_own_estimate() -> None:
    dear = deployment("dear", price=Price(input=10**12, output=10**12))
    policy = snapshot(GPT, dear, routing={"fallbacks": {"gpt": ("dear",)}, "num_retries": 0})
    seen: list[int] = []

    async def go() -> None:
        failing = reply()
        failing.raises = broken(Kind.CONNECT)
        with room(policy, failing, reply((1, 1)), keys=[key(max_budget=10**15)]) as made:
            send = made.upstream.send

            async def watching(*args: Any, **named: Any) -> Any:
                account = made.plane.keys.account("k1")
                assert account is not None
                seen.append(account.reserved)
                return await send(*args, **named)

            made.upstream.send = watching  # type: ignore[method-assign]
            inbound = await made.serve(RecordingInbound(ask()))
            assert inbound.status == 200

    run(go())
    assert seen[1] > 100 * seen[0]


def test_wildcards_are_priced_for_the_model_that_was_asked_for() -> None:
    asked: list[str] = []

    def priced(found: Any) -> Any:
        asked.append(found.upstream_model)
        return msgspec.structs.replace(found, price=PRICE, price_state=PriceState.LISTED)

    wild = deployment("w/*", upstream_model="up-*", price=None, price_state=PriceState.UNKNOWN)

    async def go() -> None:
        with room(snapshot(wild), reply(), reply(), reply(), priced=priced, keys=[key(max_budget=10**12)]) as made:
            for model in ("w/one", "w/one", "w/two"):
                inbound = await made.serve(RecordingInbound(ask(model)))
                assert inbound.status == 200
            assert asked == ["up-one", "up-two"]
            assert [record.cost for record in made.settled] == [20000] * 3
            assert [record.upstream_model for record in made.settled] == ["up-one", "up-one", "up-two"]
            assert b'"up-two"' in made.upstream.sent[2].body

    run(go())


def test_an_error_that_hides_in_a_200_is_an_error() -> None:
    hidden = Play(b'{"error":{"message":"overloaded","code":503}}', headers=[JSON])
    made, inbound = once(snapshot(GPT, routing={"num_retries": 0}), hidden)
    assert (inbound.status, made.record.outcome, made.record.fault) == (503, Outcome.FAILED, "upstream_error")
