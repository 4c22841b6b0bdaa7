"""Errors travel in the OpenAI envelope; a provider's talk of its own troubles does not travel at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.core.usage import Usage
from ostiary.wire.dialects.openai_chat.batch import rewritten_line
from ostiary.wire.dialects.openai_chat.faults import LARGEST_ERROR, decode_fault, encode_fault, encode_fault_event
from ostiary.wire.dialects.openai_chat.usage import read_usage
from ostiary.wire.governed import Ask


def error(message: str = "no", **more: object) -> bytes:
    return json.dumps({"error": {"message": message, **more}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "retry", "relayed"),
    [
        (400, error(code="context_length_exceeded"), Kind.CONTEXT_WINDOW, Retry.NEVER, True),
        (400, error("This exceeds the maximum context length"), Kind.CONTEXT_WINDOW, Retry.NEVER, True),
        (400, error(code="content_filter"), Kind.CONTENT_POLICY, Retry.NEVER, True),
        (400, error(type="content_policy_violation"), Kind.CONTENT_POLICY, Retry.NEVER, True),
        (400, error(), Kind.UPSTREAM_REJECTED, Retry.NEVER, True),
        (400, b'{"error":"plain words"}', Kind.UPSTREAM_REJECTED, Retry.NEVER, True),
        (400, b"<html>", Kind.UPSTREAM_REJECTED, Retry.NEVER, False),
        (400, error("x" * LARGEST_ERROR), Kind.UPSTREAM_REJECTED, Retry.NEVER, False),
        (401, error("key sk-secret"), Kind.UPSTREAM_AUTH, Retry.NEXT, False),
        (402, error("no money"), Kind.UPSTREAM_AUTH, Retry.NEXT, False),
        (403, error("key sk-secret"), Kind.UPSTREAM_AUTH, Retry.NEXT, False),
        (404, error(), Kind.UPSTREAM_REJECTED, Retry.NEXT, True),
        (408, error(), Kind.TIMEOUT, Retry.SAME, False),
        (429, error(), Kind.UPSTREAM_RATE_LIMIT, Retry.NEXT, False),
        (503, error(), Kind.UPSTREAM_ERROR, Retry.SAME, False),
        (302, b"", Kind.BAD_ANSWER, Retry.NEXT, False),
    ],
)
def test_a_providers_error_means_what_its_status_and_code_say(
    status: int, body: bytes, kind: Kind, retry: Retry, relayed: bool
) -> None:
    fault = decode_fault(status, body)
    assert (fault.kind, fault.retry, fault.origin) == (kind, retry, Origin.UPSTREAM)
    assert (encode_fault(fault) == body) is relayed
    assert relayed or "sk-secret" not in encode_fault(fault).decode()


@given(status=st.integers(100, 599), body=st.binary(max_size=60))
def test_any_status_and_bytes_are_a_fault(status: int, body: bytes) -> None:
    assert isinstance(decode_fault(status, body), Fault)


def test_our_own_faults_are_written_in_the_envelope() -> None:
    fault = Fault(Kind.RATE_LIMITED, "slow down", param="model")
    envelope = {"error": {"message": "slow down", "type": "rate_limit_error", "param": "model", "code": "429"}}
    assert json.loads(encode_fault(fault)) == envelope
    assert encode_fault_event(fault) == b"data: " + encode_fault(fault) + b"\n\n"


EVERYTHING = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "prompt_cache_hit_tokens": 4,
    "prompt_tokens_details": {"audio_tokens": 1, "cache_creation_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 2},
}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"choices":[]}', None),
        (b'{"choices":[],"usage":{}}', None),
        (b'{"choices":[],"usage":{"prompt_tokens":-1}}', None),
        (b'{"choices":[],"usage":"x"}', None),
        (b'{"choices":[],"usage":{"prompt_tokens":' + b"9" * 400 + b"}}", None),
        (b'{"error":{"message":"x"},"choices":[],"usage":{"prompt_tokens":1}}', Usage(1)),
        (
            json.dumps({"usage": EVERYTHING}).encode(),
            Usage(9, 5, cache_read=4, cache_creation=2, reasoning=3, audio_input=1, audio_output=2),
        ),
    ],
)
def test_the_usage_of_an_answer_is_what_makes_sense_of_it(body: bytes, expected: Usage | None) -> None:
    assert read_usage(body) == expected


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", Kind.BAD_ANSWER),
        (b"[]", Kind.BAD_ANSWER),
        (b'{"usage":"\xff', Kind.BAD_ANSWER),
        (b"[" * 10**6, Kind.BAD_ANSWER),
        (error(code=429), Kind.UPSTREAM_RATE_LIMIT),
        (error(status="503"), Kind.UPSTREAM_ERROR),
        (error(code="9" * 5000), Kind.UPSTREAM_ERROR),
        (b'{"error":5}', Kind.UPSTREAM_ERROR),
    ],
)
def test_an_answer_that_is_none_is_a_fault(body: bytes, kind: Kind) -> None:
    with pytest.raises(Fault) as caught:
        read_usage(body)
    assert caught.value.kind is kind


@given(body=st.binary(max_size=60))
def test_arbitrary_bytes_state_usage_or_are_a_fault(body: bytes) -> None:
    kind = None
    try:
        read_usage(body)
    except Fault as fault:
        kind = fault.kind
    assert kind in (None, Kind.BAD_ANSWER, Kind.UPSTREAM_ERROR)


@pytest.mark.parametrize("depth", [500, *range(900, 1000, 4)])
def test_dos_01_an_answer_nested_to_the_very_limit_is_usage_or_a_fault(depth: int) -> None:
    nest = b"[" * depth + b"]" * depth
    for body in (b'{"usage":{"x":%s}}', b'{"usage":{"prompt_tokens":"x","y":%s}}', b'{"error":{"x":%s}}'):
        kind = None
        try:
            read_usage(body % nest)
        except Fault as fault:
            kind = fault.kind
        assert kind in (None, Kind.BAD_ANSWER, Kind.UPSTREAM_ERROR)


def renamed(ask: Ask) -> bytes:
    return ask.patched("up", include_usage=False)


def test_each_line_of_a_batch_is_a_request_of_its_own() -> None:
    line = b'{"custom_id":"1","body":{"model":"m","x": 1}}'
    assert rewritten_line(line, 1, 64, renamed) == b'{"custom_id":"1","body":{"model":"up","x": 1}}'
    assert rewritten_line(b"  ", 2, 64, renamed) == b"  "
    assert rewritten_line(b'{"custom_id":"1"}', 3, 64, renamed) == b'{"custom_id":"1"}'


@pytest.mark.parametrize(
    "line", [b"[1]", b"{", b'{"body":{"model":"m"},"x":{"body":1},"y":{"model":"m"}}', b'{"body":{"model":1}}']
)
def test_a_line_that_is_no_request_or_ambiguous_is_refused(line: bytes) -> None:
    with pytest.raises(Fault):
        rewritten_line(line, 1, 64, renamed)
