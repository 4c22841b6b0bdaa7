"""Retries, fallbacks and cooldown, counted where it cannot be argued: at the provider."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from ostiary.testing import script as scripts
from ostiary.testing.factories import chat, configuration, deployment
from ostiary.testing.gateway import Gateway, running_gateway
from ostiary.testing.provider import FakeProvider, Seen
from ostiary.testing.raw import RawAnswer, fetch
from ostiary.testing.script import BEFORE_HEAD, OK, SERVER_ERROR, Script

GROUPS = (
    *("lone", "refused", "late", "limited", "main", "main-spare", "gate", "gate-spare"),
    *("ctx", "ctx-long", "pol", "pol-mild", "cap", "cap-2", "cap-3", "cap-4", "begun", "begun-spare"),
    *("bad", "bad-spare", "loud", "loud-spare", "dead", "dead-spare"),
)
MAX_ATTEMPTS = 5


@pytest.fixture(scope="module")
def router(provider: FakeProvider) -> Iterator[Gateway]:
    """A gateway with a group for each test, so that no test meets the failures of another."""
    url = provider.url
    rows = [deployment(name, url, model=f"u-{name}", info={"id": f"id-{name}"}) for name in GROUPS]
    rows += [deployment("pair", url, model=f"u-pair-{x}", info={"id": f"id-pair-{x}"}) for x in "ab"]
    rows += [deployment("broken", url, model=f"u-broken-{x}", info={"id": f"id-broken-{x}"}) for x in "ab"]
    rows += [deployment("weighted", url, model=f"u-weighted-{w}", weight=w) for w in (1, 3)]
    rows += [deployment("timed", url, model="u-timed", timeout=0.4)]
    router = {
        "num_retries": 2,
        "cooldown_time": 60,
        "fallbacks": [
            *({name: [f"{name}-spare"]} for name in ("main", "gate", "begun", "bad", "loud", "dead")),
            {"cap": ["cap-2", "cap-3", "cap-4"]},
        ],
        "context_window_fallbacks": [{"ctx": ["ctx-long"]}],
        "content_policy_fallbacks": [{"pol": ["pol-mild"]}],
    }
    ours = {"routing": {"max_attempts": MAX_ATTEMPTS}, "ledger": {"flush_seconds": 0.05}}
    with running_gateway(configuration(*rows, router_settings=router, ostiary=ours)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def caller(router: Gateway) -> str:
    return router.key()


def ask(gateway: Gateway, key: str, model: str, **fields: object) -> RawAnswer:
    return asyncio.run(fetch(gateway.url, "POST", "/v1/chat/completions", chat(model, **fields), key=key, seconds=20))


def attempts(provider: FakeProvider, *groups: str) -> list[Seen]:
    return [seen for group in groups for seen in provider.seen(f"u-{group}")]


def test_a_server_error_is_tried_again_and_the_answer_says_how_often(
    router: Gateway, caller: str, provider: FakeProvider
) -> None:
    provider.script("u-lone", SERVER_ERROR, SERVER_ERROR, OK)
    answer = ask(router, caller, "lone")
    assert answer.status == 200
    assert answer.header("x-litellm-attempted-retries") == "2"
    first, second, third = attempts(provider, "lone")
    assert second.at - first.at > 0.02  # with a pause that grows
    assert third.at > second.at
    row = router.record(answer.header("x-litellm-call-id"))
    assert row["spend"] == pytest.approx(0.00002)  # the failed attempts cost nothing


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_error_is_never_tried_again(
    router: Gateway, caller: str, provider: FakeProvider, stream: bool
) -> None:
    provider.script("u-bad", scripts.BAD_REQUEST)
    before = len(attempts(provider, "bad"))
    answer = ask(router, caller, "bad", stream=stream)
    assert answer.status == 400
    assert answer.json()["error"]["code"] == "unsupported_value"
    assert len(attempts(provider, "bad")) == before + 1
    assert attempts(provider, "bad-spare") == []


def test_retry_after_is_honoured(router: Gateway, caller: str, provider: FakeProvider) -> None:
    provider.script("u-limited", scripts.rejected(1), OK)
    answer = ask(router, caller, "limited")
    seen = attempts(provider, "limited")
    if answer.status == 200:
        assert seen[1].at - seen[0].at >= 1.0
    else:  # waiting is the caller's part: then he is told how long, and nobody was bothered again
        assert answer.status == 429
        assert float(answer.header("retry-after") or 0) >= 0.5
        assert len(seen) == 1


@pytest.mark.parametrize("script", [scripts.GARBAGE, Script(cut_byte=40), Script(cut_event=0), Script(length=9999)])
def test_a_broken_answer_is_asked_for_elsewhere(
    router: Gateway, caller: str, provider: FakeProvider, script: Script
) -> None:
    provider.script("u-broken-a", script)
    for _ in range(3):
        answer = ask(router, caller, "broken")
        assert answer.status == 200
        assert answer.header("x-litellm-model-id") == "id-broken-b"


def test_another_deployment_of_the_name_takes_over(router: Gateway, caller: str, provider: FakeProvider) -> None:
    provider.script("u-pair-a", SERVER_ERROR)
    answers = [ask(router, caller, "pair") for _ in range(20)]
    assert {answer.status for answer in answers} == {200}
    assert {answer.header("x-litellm-model-id") for answer in answers} == {"id-pair-b"}
    assert len(attempts(provider, "pair-a")) <= 6  # then it cools down, for a minute
    assert len(attempts(provider, "pair-b")) == 20


def test_weights_divide_the_traffic(router: Gateway, caller: str, provider: FakeProvider) -> None:
    for _ in range(80):
        assert ask(router, caller, "weighted").status == 200
    light, heavy = len(attempts(provider, "weighted-1")), len(attempts(provider, "weighted-3"))
    assert light + heavy == 80
    assert 5 <= light <= 38  # 20 expected; beyond four standard deviations


def test_a_fallback_serves_when_the_name_fails(router: Gateway, caller: str, provider: FakeProvider) -> None:
    provider.script("u-main", SERVER_ERROR)
    answer = ask(router, caller, "main")
    assert answer.status == 200
    assert answer.header("x-litellm-attempted-fallbacks") == "1"
    assert answer.header("x-litellm-model-id") == "id-main-spare"
    assert json.loads(attempts(provider, "main-spare")[0].body)["model"] == "u-main-spare"


@pytest.mark.parametrize(
    ("group", "other", "script"),
    [("ctx", "ctx-long", scripts.CONTEXT_WINDOW), ("pol", "pol-mild", scripts.CONTENT_FILTER)],
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_refusal_of_the_content_goes_to_the_model_meant_for_it_without_a_retry(
    router: Gateway, caller: str, provider: FakeProvider, group: str, other: str, script: Script, stream: bool
) -> None:
    provider.script(f"u-{group}", script)
    before = len(attempts(provider, group))
    answer = ask(router, caller, group, stream=stream)
    assert answer.status == 200
    assert answer.header("x-litellm-model-id") == f"id-{other}"
    assert len(attempts(provider, group)) == before + 1


def test_attempts_have_a_cap_over_retries_and_fallbacks(router: Gateway, caller: str, provider: FakeProvider) -> None:
    groups = ("cap", "cap-2", "cap-3", "cap-4")
    for group in groups:
        provider.script(f"u-{group}", SERVER_ERROR)
    assert ask(router, caller, "cap").status >= 500
    assert 1 < len(attempts(provider, *groups)) <= MAX_ATTEMPTS


@pytest.mark.parametrize("events", [1, 3])
def test_after_the_first_byte_nothing_is_tried_again(
    router: Gateway, caller: str, provider: FakeProvider, events: int
) -> None:
    provider.script("u-begun", Script(cut_event=events))
    before = len(attempts(provider, "begun"))
    answer = ask(router, caller, "begun", stream=True)
    assert answer.status == 200
    assert "[DONE]" not in answer.events()
    assert len(attempts(provider, "begun")) == before + 1
    assert attempts(provider, "begun-spare") == []


def test_aig_04_a_fallback_is_authorised_like_a_request(router: Gateway, provider: FakeProvider) -> None:
    provider.script("u-gate", SERVER_ERROR)
    answer = ask(router, router.key(models=["gate"]), "gate")
    assert answer.status >= 500
    assert attempts(provider, "gate-spare") == []


def test_a_request_cannot_bring_fallbacks_of_its_own(router: Gateway, provider: FakeProvider) -> None:
    provider.script("u-loud", SERVER_ERROR)
    before = len(attempts(provider, "late"))
    answer = ask(router, router.key(models=["loud"]), "loud", fallbacks=["late"])
    assert answer.status >= 400
    assert len(attempts(provider, "late")) == before


def test_a_provider_that_does_not_listen_is_passed_over(provider: FakeProvider) -> None:
    rows = [
        deployment("far", "http://127.0.0.1:9/v1", model="nobody"),
        deployment("near", provider.url, model="u-near"),
    ]
    router = {"fallbacks": [{"far": ["near"]}], "num_retries": 1}
    with running_gateway(configuration(*rows, router_settings=router)) as gateway:
        assert ask(gateway, gateway.key(), "far").status == 200
        assert gateway.call("GET", "/health/readiness")[0] == 200


def test_a_deployment_that_takes_too_long_is_a_timeout(router: Gateway, caller: str, provider: FakeProvider) -> None:
    provider.script("u-timed", Script(hold=BEFORE_HEAD))
    answer = ask(router, caller, "timed")
    assert answer.status in (408, 504)
    provider.wait(lambda: all(seen.outcome == "aborted" for seen in attempts(provider, "timed")))


def test_one_deadline_covers_all_attempts(provider: FakeProvider) -> None:
    provider.script("u-never", Script(hold=BEFORE_HEAD))
    rows = [deployment("never", provider.url, model="u-never")]
    ours = {"routing": {"exchange_seconds": 0.8}}
    with running_gateway(configuration(*rows, ostiary=ours, router_settings={"num_retries": 5})) as gateway:
        answer = ask(gateway, gateway.key(), "never")
    assert answer.status in (408, 504)
    seen = attempts(provider, "never")
    assert seen
    assert all(one.ended - seen[0].at < 2.0 for one in seen)
