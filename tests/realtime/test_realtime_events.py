"""Events of the Realtime API: usage as it is billed, models as they are named, errors as a client reads them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.realtime import RealtimeErrorEvent
from talk_kit import USAGE

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.secret import Secret
from ostiary.core.snapshot import Deployment, UrlStyle
from ostiary.core.usage import Usage
from ostiary.gateway.dialling import realtime_path
from ostiary.gateway.realtime import speaks_realtime
from ostiary.wire.realtime.events import (
    ENDPOINT,
    error_event,
    most_output,
    read_client,
    read_provider,
    session_of,
    transcriptions_of,
    write_client,
)


def done(usage: Any) -> Usage | None:
    event = {"type": "response.done", "response": {"id": "r", "status": "completed", "usage": usage}}
    return read_provider(json.dumps(event).encode()).usage


def test_cached_audio_counts_as_cached_alone() -> None:
    assert done(USAGE) == Usage(132, 121, cache_read=64, audio_input=9, audio_output=91)


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": -1}, {"input_tokens": 10**13}, {"input_tokens": "many"}])
def test_usage_that_cannot_be_meant_is_none(usage: Any) -> None:
    assert done(usage) is None


def test_a_transcription_states_tokens_or_seconds() -> None:
    kind = "conversation.item.input_audio_transcription.completed"
    by_time = read_provider(json.dumps({"type": kind, "usage": {"type": "duration", "seconds": 1.5}}).encode())
    assert by_time.usage == Usage(milliseconds=1500)
    tokens = {"type": "tokens", "input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
    assert read_provider(json.dumps({"type": kind, "usage": tokens}).encode()).usage == Usage(7, 3)


@given(st.one_of(st.binary(), st.text().map(str.encode)))
def test_any_bytes_of_a_provider_are_an_event_or_none(payload: bytes) -> None:
    assert read_provider(payload).usage is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=4), st.text())
def test_an_event_goes_on_as_it_was_meant(members: dict[str, Any], kind: str) -> None:
    event = {**members, "type": kind}
    assert json.loads(write_client(read_client(json.dumps(event).encode(), 64))) == event


@given(st.binary(max_size=200))
def test_any_bytes_of_a_client_are_an_event_or_refused(payload: bytes) -> None:
    fault, event = None, None
    try:
        event = read_client(payload, 64)
    except Fault as refusal:
        fault = refusal
    assert (event is None) is (fault is not None)
    assert fault is None or fault.kind is Kind.MALFORMED


@given(JSON)
def test_settings_of_any_shape_are_read(value: Any) -> None:
    session = session_of({"type": "session.update", "session": value})
    assert session == (value if isinstance(value, dict) else {})
    assert isinstance(transcriptions_of({"audio": value, "input_audio_transcription": value}), list)
    assert most_output(value) is None or isinstance(value, dict)


def test_both_editions_name_a_model_for_transcribing() -> None:
    first, second = {"model": "a"}, {"model": "b"}
    assert transcriptions_of({"audio": {"input": {"transcription": first}}}) == [first]
    assert transcriptions_of({"input_audio_transcription": second}) == [second]


def test_an_error_is_one_that_the_official_client_reads() -> None:
    fault = Fault(Kind.RATE_LIMITED, "too fast", origin=Origin.POLICY, param="rpm_limit")
    event = RealtimeErrorEvent.model_validate_json(error_event(fault, "event_1", "mine"), strict=True)
    assert (event.error.type, event.error.code, event.error.message) == ("rate_limit_error", "rate_limited", "too fast")
    assert (event.error.param, event.error.event_id, event.event_id) == ("rpm_limit", "mine", "event_1")


def target(**fields: Any) -> Deployment:
    given: dict[str, Any] = {
        "id": "d", "model_name": "talk", "provider": "openai", "upstream_model": "gpt realtime/1", "scheme": "https",
        "host": "provider.test", "port": 443, "base_path": "/v1", "credential": Secret("x"), "mode": "realtime",
    }  # fmt: skip
    return Deployment(**(given | fields))


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({}, "/v1/realtime?model=gpt%20realtime%2F1"),
        ({"paths": (("realtime", "/rt"),)}, "/v1/rt?model=gpt%20realtime%2F1"),
        (
            {"url_style": UrlStyle.AZURE, "base_path": "", "api_version": "2025-04-01-preview"},
            "/openai/realtime?api-version=2025-04-01-preview&deployment=gpt%20realtime%2F1",
        ),
        ({"url_style": UrlStyle.AZURE, "base_path": ""}, "/openai/v1/realtime?model=gpt%20realtime%2F1"),
    ],
)
def test_the_address_at_a_provider(fields: dict[str, Any], path: str) -> None:
    assert realtime_path(target(**fields), ENDPOINT) == path


def test_who_speaks_it() -> None:
    assert speaks_realtime(target())
    assert not speaks_realtime(target(mode="chat"))
    assert speaks_realtime(target(mode="chat", paths=(("realtime", "/realtime"),)))
    assert not speaks_realtime(target(dialects=("gemini_generate",)))  # its live API is another one
    assert not speaks_realtime(target(scheme="demo"))
