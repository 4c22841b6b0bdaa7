"""Retries, fallbacks, cooldown, the cap on attempts and the deadline of the whole; and no attempt after the commit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kit import Draws, Room, ask, deployment, key, once, room, run, snapshot
from kit_client import RecordingInbound
from kit_provider import DONE, STREAM, Play, broken, chunk, refusal, reply

from ostiary.core.fault import Kind, Retry
from ostiary.core.record import Outcome
from ostiary.core.snapshot import PolicySnapshot

ALONE = deployment("gpt")
PAIR = (deployment("gpt", "a"), deployment("gpt", "b"))


def hosts(made: Room) -> list[str]:
    return [sent.origin.host.removesuffix(".test") for sent in made.upstream.sent]


def dead(kind: Kind = Kind.CONNECT, retry: Retry = Retry.SAME, **more: Any) -> Play:
    return Play(raises=broken(kind, retry, **more))


def one(*plays: Play, policy: PolicySnapshot | None = None, **routing: Any) -> tuple[Room, RecordingInbound]:
    return once(policy or snapshot(ALONE, routing=routing), *plays)


def test_a_failure_that_may_pass_is_tried_again_after_a_pause() -> None:
    made, inbound = one(refusal(500), refusal(503), reply(), retry_base_seconds=1.0)
    assert inbound.status == 200
    assert inbound.head["x-litellm-attempted-retries"] == "2"
    at = [sent.at for sent in made.upstream.sent]
    assert at[1] - at[0] == pytest.approx(0.75)  # half to whole of the base, by the draw of 0.5
    assert at[2] - at[1] == pytest.approx(1.5)
    assert (made.record.attempts, made.record.outcome) == (3, Outcome.COMPLETED)


def test_retries_end_where_the_operator_says() -> None:
    made, inbound = one(*(refusal(500) for _ in range(3)), num_retries=2)
    assert (inbound.status, len(hosts(made))) == (500, 3)
    assert (made.record.outcome, made.record.fault, made.record.cost) == (Outcome.FAILED, "upstream_error", 0)


@pytest.mark.parametrize("status", [400, 409, 413, 415, 422, 451])
def test_a_clients_error_is_never_retried_and_relayed_as_it_came(status: int) -> None:
    play = refusal(status, message="your own fault")
    made, inbound = one(play)
    assert (inbound.status, len(hosts(made))) == (status, 1)
    assert inbound.sent == play.steps[0]


@pytest.mark.parametrize("status", [401, 403, 500, 502])
def test_what_concerns_the_gateway_and_its_provider_is_not_relayed(status: int) -> None:
    _made, inbound = one(refusal(status, message="account acct_123 of key sk-prov"), num_retries=0)
    assert inbound.status >= 500
    assert b"acct_123" not in inbound.sent


@pytest.mark.parametrize(("asked", "attempts"), [(0, 1), (1, 2), (99, 3), (-5, 1)])
def test_a_caller_may_only_ask_for_fewer_retries(asked: int, attempts: int) -> None:
    plays = [refusal(500) for _ in range(attempts)]
    made, _ = once(snapshot(ALONE), *plays, inbound=RecordingInbound(ask(num_retries=asked)))
    assert len(hosts(made)) == attempts
    assert b"num_retries" not in made.upstream.sent[0].body


def test_a_number_of_retries_that_is_none_is_the_clients_error() -> None:
    made, inbound = once(snapshot(ALONE), refusal(500), inbound=RecordingInbound(ask(num_retries="many")))
    assert (inbound.status, made.record.fault) == (400, "invalid_request")


def test_the_retry_policy_counts_by_kind_over_the_deployments_and_the_general_number() -> None:
    made, _ = one(*(refusal(500) for _ in range(2)), retry_policy={"upstream_error": 1}, num_retries=5)
    assert len(hosts(made)) == 2
    policy = snapshot(deployment("gpt", max_retries=0), routing={"num_retries": 5})
    made, _ = one(refusal(500), policy=policy)
    assert len(hosts(made)) == 1


def test_the_next_deployment_is_tried_at_once() -> None:
    made, inbound = once(snapshot(*PAIR), refusal(500), reply(), chance=Draws(0.0))
    assert inbound.status == 200
    assert sorted(hosts(made)) == ["a", "b"]
    assert made.upstream.sent[0].at == made.upstream.sent[1].at


def test_a_refused_credential_is_not_offered_again() -> None:
    made, inbound = once(snapshot(*PAIR, routing={"num_retries": 5}), refusal(401), refusal(401))
    assert (inbound.status, sorted(hosts(made))) == (502, ["a", "b"])


def test_a_short_retry_after_is_waited_for_even_by_the_only_deployment() -> None:
    made, inbound = one(refusal(429, (b"retry-after", b"1")), reply())
    assert inbound.status == 200
    assert made.upstream.sent[1].at - made.upstream.sent[0].at == pytest.approx(1.0, abs=0.05)


def test_all_deployments_at_their_limit_are_waited_for_as_long_as_they_ask() -> None:
    plays = [refusal(429, (b"retry-after", b"3")), refusal(429, (b"retry-after-ms", b"2000")), reply()]
    made, inbound = once(snapshot(*PAIR), *plays)
    assert inbound.status == 200
    assert 2.0 <= made.upstream.sent[2].at - made.upstream.sent[0].at <= 3.1


def test_a_long_retry_after_is_told_to_the_client_instead() -> None:
    made, inbound = one(refusal(429, (b"retry-after", b"120")))
    assert (inbound.status, inbound.head["retry-after"], len(hosts(made))) == (429, "120", 1)
    assert inbound.error["type"] == "rate_limit_error"


def test_a_rate_limit_without_a_time_is_not_hammered() -> None:
    made, inbound = one(refusal(429))
    assert (inbound.status, len(hosts(made))) == (429, 1)


def test_a_resting_deployment_is_passed_over_and_comes_back() -> None:
    async def go() -> None:
        with room(snapshot(*PAIR), chance=Draws(*[0.0] * 50)) as made:
            made.upstream.by_host = {
                "a.test": [refusal(429, (b"retry-after", b"9")), reply()],
                "b.test": [reply(), reply()],
            }
            for _ in range(2):
                assert (await made.serve(RecordingInbound(ask()))).status == 200
            assert hosts(made) == ["a", "b", "b"]
            await asyncio.sleep(10)
            assert (await made.serve(RecordingInbound(ask()))).status == 200
            assert hosts(made)[-1] == "a"

    run(go())


def test_when_all_rest_the_client_is_told_when_to_come_again() -> None:
    async def go() -> None:
        with room(snapshot(ALONE), refusal(429, (b"retry-after", b"200"))) as made:
            await made.serve(RecordingInbound(ask()))
            inbound = await made.serve(RecordingInbound(ask()))
            assert (inbound.status, inbound.head["retry-after"]) == (429, "200")
            assert made.settled[-1].fault == "no_deployment"
            assert made.settled[-1].outcome is Outcome.FAILED
            assert len(hosts(made)) == 1

    run(go())


def test_a_full_deployment_takes_no_more_requests() -> None:
    async def go() -> None:
        slow = reply()
        slow.wait = 5.0
        with room(snapshot(deployment("gpt", max_parallel=1)), slow, reply()) as made:
            first = made.begin(RecordingInbound(ask()))
            await asyncio.sleep(1)
            assert (await made.serve(RecordingInbound(ask()))).status == 429
            await first
            assert (await made.serve(RecordingInbound(ask()))).status == 200

    run(go())


# --- fallbacks ---

THREE = tuple(deployment(name) for name in ("one", "two", "three"))


def fallen(*plays: Play, fields: dict[str, Any] | None = None, **routing: Any) -> tuple[Room, RecordingInbound]:
    policy = snapshot(*THREE, routing={"num_retries": 0, **routing})
    return once(policy, *plays, inbound=RecordingInbound(ask("one", **(fields or {}))))


def test_fallbacks_are_tried_in_order_and_told() -> None:
    made, inbound = fallen(dead(), dead(), reply(), fallbacks={"one": ("two", "three")})
    assert (inbound.status, hosts(made)) == (200, ["d-one", "d-two", "d-three"])
    assert (made.record.fallbacks, made.record.model, made.record.deployment) == (2, "one", "d-three")
    assert inbound.head["x-litellm-attempted-fallbacks"] == "2"
    assert inbound.head["x-litellm-attempted-retries"] == "0"
    assert b'"three"' in made.upstream.sent[2].body


def test_each_fallback_may_have_its_own_and_none_is_tried_twice() -> None:
    made, inbound = fallen(dead(), dead(), dead(), fallbacks={"one": ("two",), "two": ("three", "one"), "*": ("one",)})
    assert (inbound.status, hosts(made)) == (502, ["d-one", "d-two", "d-three"])


def test_fallbacks_for_everything_and_by_default() -> None:
    assert hosts(fallen(dead(), reply(), fallbacks={"*": ("three",)})[0]) == ["d-one", "d-three"]
    assert hosts(fallen(dead(), reply(), default_fallbacks=("two",))[0]) == ["d-one", "d-two"]


def test_a_caller_may_do_without_fallbacks() -> None:
    made, _ = fallen(dead(), fallbacks={"one": ("two",)}, fields={"disable_fallbacks": True})
    assert hosts(made) == ["d-one"]


def test_a_clients_error_has_no_fallback() -> None:
    made, _ = fallen(refusal(400), fallbacks={"one": ("two",)})
    assert hosts(made) == ["d-one"]


@pytest.mark.parametrize(
    ("code", "setting"),
    [("context_length_exceeded", "context_window_fallbacks"), ("content_filter", "content_policy_fallbacks")],
)
def test_a_long_request_and_a_refused_content_have_lists_of_their_own(code: str, setting: str) -> None:
    made, inbound = fallen(
        refusal(400, code=code), reply(), **{setting: {"one": ("two",)}}, fallbacks={"one": ("three",)}
    )
    assert (inbound.status, hosts(made)) == (200, ["d-one", "d-two"])


def test_the_number_of_fallbacks_is_capped() -> None:
    made, _ = fallen(dead(), dead(), fallbacks={"one": ("two", "three")}, max_fallbacks=1)
    assert hosts(made) == ["d-one", "d-two"]


def test_aig_04_a_fallback_the_key_may_not_use_is_as_if_it_were_not_there() -> None:
    policy = snapshot(*THREE, routing={"num_retries": 0, "fallbacks": {"one": ("two", "nobody", "three")}})
    who = key(models=("one", "three"))
    made, inbound = once(policy, dead(), reply(), keys=[who], inbound=RecordingInbound(ask("one")))
    assert (inbound.status, hosts(made)) == (200, ["d-one", "d-three"])


def test_a_fallback_without_a_ready_deployment_leads_on() -> None:
    policy = snapshot(*THREE, routing={"num_retries": 0, "fallbacks": {"one": ("two", "three")}})

    async def go() -> None:
        with room(policy, refusal(429, (b"retry-after", b"99")), dead(), reply()) as made:
            await made.serve(RecordingInbound(ask("two")))
            inbound = await made.serve(RecordingInbound(ask("one")))
            assert (inbound.status, hosts(made)) == (200, ["d-two", "d-one", "d-three"])
            assert inbound.head["x-litellm-attempted-retries"] == "0"

    run(go())


# --- what holds for the whole ---


def test_attempts_are_capped_over_retries_and_fallbacks() -> None:
    made, _ = fallen(*(dead() for _ in range(4)), num_retries=2, max_attempts=4, fallbacks={"one": ("two", "three")})
    assert hosts(made) == ["d-one"] * 3 + ["d-two"]
    assert made.record.attempts == 4


def test_the_deadline_holds_over_all_attempts() -> None:
    slow = [Play(raises=broken(Kind.TIMEOUT), wait=4.0) for _ in range(9)]
    made, inbound = fallen(*slow, num_retries=9, max_attempts=99, exchange_seconds=10.0, fallbacks={"one": ("two",)})
    assert inbound.status == 504
    assert len(hosts(made)) == 3
    assert made.record.ended - made.record.started <= 13_000


def test_an_attempt_gets_no_more_time_than_is_left() -> None:
    late = Play(raises=broken(Kind.CONNECT), wait=7.0)
    made, _ = fallen(late, reply(), num_retries=1, exchange_seconds=10.0)
    assert made.upstream.sent[0].timeouts.total == pytest.approx(10.0, abs=0.01)
    assert made.upstream.sent[1].timeouts.total < 3.0
    assert made.upstream.sent[1].timeouts.first_byte < 3.0


def test_a_retry_that_would_wait_beyond_the_deadline_is_not_waited_for() -> None:
    made, inbound = one(refusal(429, (b"retry-after", b"30")), exchange_seconds=20.0)
    assert (inbound.status, len(hosts(made))) == (429, 1)
    assert made.record.ended - made.record.started < 1000


def test_a_stream_timeout_is_the_first_bytes() -> None:
    policy = snapshot(deployment("gpt", stream_timeout=7.0))
    made, _ = once(policy, Play(*STREAM), inbound=RecordingInbound(ask(stream=True)))
    assert made.upstream.sent[0].timeouts.first_byte == 7.0
    made, _ = once(policy, reply())
    assert made.upstream.sent[0].timeouts.first_byte == 600.0


@pytest.mark.parametrize("end", [broken(), broken(Kind.TIMEOUT), None])
def test_after_the_first_byte_there_is_no_further_attempt(end: Any) -> None:
    steps = (chunk("a"),) if end is None else (chunk("a"), end)
    policy = snapshot(*PAIR, *THREE, routing={"num_retries": 5, "fallbacks": {"gpt": ("one",)}})
    made, inbound = once(policy, Play(*steps), inbound=RecordingInbound(ask(stream=True)))
    assert len(hosts(made)) == 1
    assert inbound.sent.startswith(chunk("a"))
    assert DONE not in inbound.sent
    assert made.record.outcome is Outcome.TRUNCATED


def test_before_the_first_byte_a_broken_stream_is_tried_again() -> None:
    made, inbound = once(snapshot(*PAIR), Play(broken()), Play(*STREAM), inbound=RecordingInbound(ask(stream=True)))
    assert (inbound.status, inbound.ended, len(hosts(made))) == (200, "end", 2)
    assert made.record.outcome is Outcome.COMPLETED


def test_an_answer_of_the_wrong_kind_is_no_answer() -> None:
    page = Play(b"<html>", headers=[(b"content-type", b"text/html")])
    made, inbound = once(snapshot(*PAIR), page, reply())
    assert (inbound.status, len(hosts(made)), page.aborted) == (200, 2, True)


def test_a_document_of_rubbish_is_tried_elsewhere() -> None:
    made, inbound = once(snapshot(*PAIR), Play(b"{", headers=[(b"content-type", b"application/json")]), reply())
    assert (inbound.status, len(hosts(made))) == (200, 2)


# --- rights, asked anew ---


def test_a_retry_is_authorised_by_the_name_that_was_asked_for() -> None:
    policy = snapshot(ALONE, aliases={"nick": "gpt"})
    made, inbound = once(policy, dead(), reply(), keys=[key(models=("nick",))], inbound=RecordingInbound(ask("nick")))
    assert (inbound.status, len(hosts(made))) == (200, 2)


def test_a_fallback_through_an_alias_is_retried_by_its_own_name() -> None:
    policy = snapshot(*THREE, aliases={"nick": "two"}, routing={"num_retries": 1, "fallbacks": {"one": ("nick",)}})
    who = key(models=("one", "nick"))
    plays = [dead(), dead(), dead(), reply()]
    made, inbound = once(policy, *plays, keys=[who], inbound=RecordingInbound(ask("one")))
    assert (inbound.status, hosts(made)) == (200, ["d-one", "d-one", "d-two", "d-two"])


@pytest.mark.parametrize("change", [{"blocked": True}, {"models": ("other",)}, {"expires": 1.0}])
def test_aig_04_rights_that_were_lost_meanwhile_end_the_retries(change: dict[str, Any]) -> None:
    async def go() -> None:
        slow = dead()
        slow.wait = 5.0
        with room(snapshot(ALONE), slow) as made:
            asked = RecordingInbound(ask())
            first = made.begin(asked)
            await asyncio.sleep(1)
            made.plane.keys.put(key(revision=1, **change))
            await first
            assert (asked.status, hosts(made)) in ((401, ["d-gpt"]), (403, ["d-gpt"]))
            assert made.record.outcome is Outcome.BLOCKED

    run(go())
