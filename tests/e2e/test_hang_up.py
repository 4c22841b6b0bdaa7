"""When somebody goes away, everybody learns it: the provider, the ledger, and the client never by a false end."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from ostiary.testing import script as scripts
from ostiary.testing.factories import DEFAULT_COST, chat
from ostiary.testing.gateway import Gateway, eventually
from ostiary.testing.provider import FakeProvider
from ostiary.testing.raw import RawConnection, fetch, request
from ostiary.testing.script import BEFORE_HEAD, Script

EVENTS = 7  # of the default stream with usage asked for: role, three pieces, finish, usage, [DONE]
USAGE = {"include_usage": True}


def the_row(gateway: Gateway, key: str) -> dict[str, Any]:
    """The only record of a key: settled, single."""
    rows = eventually(lambda: gateway.records(api_key=key))
    assert len(rows) == 1, rows
    return rows[0]


def spent(gateway: Gateway, key: str) -> float:
    return float(gateway.admin("GET", f"/key/info?key={key}")["info"]["spend"])


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_hangs_up_while_waiting_aborts_the_upstream_within_a_second(
    gateway: Gateway, provider: FakeProvider, key: str, model: str, stream: bool
) -> None:
    provider.script(model, Script(hold=BEFORE_HEAD))
    async with RawConnection(gateway.url) as link:
        await link.send(request("POST", "/v1/chat/completions", chat(model, stream=stream), key=key))
        await provider.until(lambda: provider.seen(model))
        left = time.monotonic()
    await provider.until(lambda: provider.seen(model)[0].outcome == "aborted")
    assert provider.seen(model)[0].ended - left < 1.0
    assert the_row(gateway, key)["metadata"]["outcome"] == "client_gone"


@pytest.mark.parametrize("events", range(EVENTS))
async def test_the_client_cut_at_every_event_is_recorded_once_and_paid(
    gateway: Gateway, provider: FakeProvider, key: str, model: str, events: int
) -> None:
    provider.script(model, Script(hold=events))
    async with RawConnection(gateway.url) as link:
        body = chat(model, stream=True, stream_options=USAGE)
        await link.send(request("POST", "/v1/chat/completions", body, key=key))
        await provider.until(lambda: provider.seen(model) and provider.seen(model)[0].events_sent == events)
        if events:
            await link.receive(until=events)
        left = time.monotonic()
    await provider.until(lambda: provider.seen(model)[0].outcome == "aborted")
    assert provider.seen(model)[0].ended - left < 1.0
    row = the_row(gateway, key)
    assert row["metadata"]["outcome"] == "client_gone"
    assert row["spend"] > 0
    if events >= EVENTS - 1:  # the provider had stated its usage
        assert row["spend"] == pytest.approx(DEFAULT_COST)
    assert spent(gateway, key) == pytest.approx(row["spend"])


@pytest.mark.parametrize("events", range(EVENTS))
async def test_the_upstream_cut_at_every_event_never_looks_like_an_end(
    gateway: Gateway, provider: FakeProvider, key: str, model: str, events: int
) -> None:
    provider.script(model, Script(cut_event=events))
    answer = await fetch(
        gateway.url, "POST", "/v1/chat/completions", chat(model, stream=True, stream_options=USAGE), key=key
    )
    assert "[DONE]" not in answer.events()
    if answer.status == 200:
        assert not answer.complete or '"error"' in answer.events()[-1]
        expected = "truncated"
    else:  # nothing had gone out, so it could still be said properly
        assert answer.status >= 500
        assert events == 0
        expected = "failed"
    row = the_row(gateway, key)
    assert row["metadata"]["outcome"] == expected
    if events == EVENTS - 1:
        assert row["spend"] == pytest.approx(DEFAULT_COST)
    assert spent(gateway, key) == pytest.approx(row["spend"])


@pytest.mark.parametrize("count", [1, 12, 60, 150, 400])
async def test_a_plain_answer_cut_at_a_byte_is_an_error(
    gateway: Gateway, provider: FakeProvider, key: str, model: str, count: int
) -> None:
    provider.script(model, Script(cut_byte=count))
    answer = await fetch(gateway.url, "POST", "/v1/chat/completions", chat(model), key=key)
    assert answer.status in (502, 503)
    assert "error" in answer.json()
    assert the_row(gateway, key)["metadata"]["outcome"] == "failed"


@pytest.mark.parametrize("count", [60, 150, 400, 700])
async def test_a_stream_cut_in_the_middle_of_an_event_is_no_end(
    gateway: Gateway, provider: FakeProvider, key: str, model: str, count: int
) -> None:
    provider.script(model, Script(cut_byte=count))
    answer = await fetch(gateway.url, "POST", "/v1/chat/completions", chat(model, stream=True), key=key)
    assert "[DONE]" not in answer.events()
    assert answer.status >= 500 or not answer.complete or '"error"' in answer.events()[-1]
    assert the_row(gateway, key)["metadata"]["outcome"] in ("truncated", "failed")


async def test_an_error_event_in_a_stream_that_has_begun_is_told_and_recorded(
    gateway: Gateway, provider: FakeProvider, key: str, model: str
) -> None:
    provider.script(model, replace(scripts.ERROR_EVENT, hold=1))
    async with RawConnection(gateway.url) as link:
        await link.send(request("POST", "/v1/chat/completions", chat(model, stream=True), key=key))
        await link.receive(until=1)
        provider.release(model)
        answer = await link.receive()
    assert '"error"' in answer.events()[-1]
    assert the_row(gateway, key)["metadata"]["outcome"] == "truncated"


async def test_an_error_event_before_anything_has_gone_out_is_an_error_answer(
    gateway: Gateway, provider: FakeProvider, key: str, model: str
) -> None:
    error = b"data: " + scripts.error_body("Broke down.", "server_error", None) + b"\n\n"
    provider.script(model, Script(insert=((0, error),), cut_event=0))
    answer = await fetch(gateway.url, "POST", "/v1/chat/completions", chat(model, stream=True), key=key)
    assert answer.status >= 500
    assert "error" in answer.json()
    assert the_row(gateway, key)["metadata"]["outcome"] == "failed"


async def test_a_malformed_event_is_an_error_and_no_end(
    gateway: Gateway, provider: FakeProvider, key: str, model: str
) -> None:
    provider.script(model, scripts.MALFORMED_EVENT)
    answer = await fetch(gateway.url, "POST", "/v1/chat/completions", chat(model, stream=True), key=key)
    assert "[DONE]" not in answer.events()
    assert answer.status >= 500 or '"error"' in answer.events()[-1]
    assert the_row(gateway, key)["metadata"]["outcome"] in ("failed", "truncated")


async def test_a_silent_upstream_gets_comments_to_the_client(
    gateway: Gateway, provider: FakeProvider, key: str, model: str
) -> None:
    provider.script(model, Script(hold=2))
    async with RawConnection(gateway.url) as link:
        await link.send(request("POST", "/v1/chat/completions", chat(model, stream=True), key=key))
        await link.receive(until=2)
        while link.answer.body.count(b"\n:") < 2 and not link.answer.body.startswith(b":"):
            data = await link.read_some()
            assert data, "the stream ended instead"
        provider.release(model)
        answer = await link.receive()
    assert answer.complete
    assert answer.events()[-1] == "[DONE]"
    assert the_row(gateway, key)["metadata"]["outcome"] == "completed"


async def test_an_upstream_that_is_silent_before_its_first_byte_pings_too_or_waits_without_an_end(
    gateway: Gateway, provider: FakeProvider, key: str, model: str
) -> None:
    provider.script(model, Script(hold=BEFORE_HEAD))
    async with RawConnection(gateway.url) as link:
        await link.send(request("POST", "/v1/chat/completions", chat(model, stream=True), key=key))
        await provider.until(lambda: provider.seen(model))
        provider.release(model)
        answer = await link.receive()
    assert answer.complete
    assert answer.events()[-1] == "[DONE]"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_finished_answer_is_recorded_completed_with_the_providers_numbers(
    gateway: Gateway, provider: FakeProvider, key: str, model: str, stream: bool
) -> None:
    answer = await fetch(gateway.url, "POST", "/v1/chat/completions", chat(model, stream=stream), key=key)
    assert answer.complete
    row = gateway.record(answer.header("x-litellm-call-id"))
    assert row["metadata"]["outcome"] == "completed"
    assert (row["prompt_tokens"], row["completion_tokens"]) == (10, 5)
    assert row["spend"] == pytest.approx(DEFAULT_COST)


async def test_an_answer_without_usage_is_charged_by_estimate_and_says_so(
    gateway: Gateway, provider: FakeProvider, key: str, model: str
) -> None:
    provider.script(model, Script(usage=False))
    answer = await fetch(gateway.url, "POST", "/v1/chat/completions", chat(model), key=key)
    row = gateway.record(answer.header("x-litellm-call-id"))
    assert row["spend"] > 0
    assert row["metadata"]["usage_measured"] is False
