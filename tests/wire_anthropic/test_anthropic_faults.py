"""Faults are told in the envelope of the Messages dialect, and a provider's errors are understood."""

from __future__ import annotations

import json

import pytest
from anthropic_kit import body_of
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import FAULTS, Fault, Kind, Origin, Retry
from ostiary.wire.dialects.anthropic_messages.faults import (
    LARGEST_ERROR,
    decode_fault,
    encode_fault,
    encode_fault_event,
)

TYPES = {
    "invalid_request_error",
    "authentication_error",
    "billing_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "timeout_error",
    "api_error",
    "overloaded_error",
}


@pytest.mark.parametrize("kind", Kind)
def test_every_fault_has_a_type_that_clients_know(kind: Kind) -> None:
    document = json.loads(encode_fault(Fault(kind, "what happened")))
    assert document["type"] == "error"
    assert document["error"]["type"] in TYPES
    assert document["error"]["message"].endswith("what happened")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(Kind.INVALID_REQUEST, ""), "invalid_request_error"),
        (Fault(Kind.UNAUTHENTICATED, ""), "authentication_error"),
        (Fault(Kind.MODEL_DENIED, ""), "permission_error"),
        (Fault(Kind.UNKNOWN_MODEL, ""), "not_found_error"),
        (Fault(Kind.TOO_LARGE, ""), "request_too_large"),
        (Fault(Kind.RATE_LIMITED, ""), "rate_limit_error"),
        (Fault(Kind.BUDGET_EXCEEDED, ""), "billing_error"),
        (Fault(Kind.TIMEOUT, ""), "timeout_error"),
        (Fault(Kind.STOPPING, ""), "overloaded_error"),
        (Fault(Kind.INTERNAL, ""), "api_error"),
        (Fault(Kind.UPSTREAM_ERROR, "", status=529), "overloaded_error"),
        (Fault(Kind.UPSTREAM_REJECTED, "", status=404), "not_found_error"),
        (Fault(Kind.UPSTREAM_AUTH, ""), "api_error"),
    ],
)
def test_the_type_says_what_happened(fault: Fault, expected: str) -> None:
    assert json.loads(encode_fault(fault))["error"]["type"] == expected


def test_a_request_that_is_too_long_is_told_in_the_words_that_clients_look_for() -> None:
    message = json.loads(encode_fault(Fault(Kind.CONTEXT_WINDOW, "longer than the context")))["error"]["message"]
    assert message == "prompt is too long: longer than the context"
    assert decode_fault(400, encode_fault(Fault(Kind.CONTEXT_WINDOW, ""))).kind is Kind.CONTEXT_WINDOW


def test_a_fault_within_a_stream_is_one_event_even_of_a_pretty_body() -> None:
    fault = Fault(Kind.UPSTREAM_REJECTED, "", answer=b'{\n  "type": "error"\r\n}')
    event = encode_fault_event(fault)
    assert event.startswith(b"event: error\ndata: {")
    assert event.count(b"\n") == 3
    assert b"\r" not in event


def error(kind: str, message: str) -> bytes:
    return body_of({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"})


@pytest.mark.parametrize(
    ("status", "body", "kind", "retry", "shown"),
    [
        (400, error("invalid_request_error", "prompt is too long: 9 > 8"), Kind.CONTEXT_WINDOW, Retry.NEVER, True),
        (400, error("invalid_request_error", "input length and `max_tokens` exceed context limit: 9 + 8 > 10"),
         Kind.CONTEXT_WINDOW, Retry.NEVER, True),
        (400, error("invalid_request_error", "Output blocked by content filtering policy"), Kind.CONTENT_POLICY,
         Retry.NEVER, True),
        (400, error("invalid_request_error", "Your credit balance is too low"), Kind.UPSTREAM_AUTH, Retry.NEXT, False),
        (400, error("invalid_request_error", "tools: wrong"), Kind.UPSTREAM_REJECTED, Retry.NEVER, True),
        (401, error("authentication_error", "invalid x-api-key"), Kind.UPSTREAM_AUTH, Retry.NEXT, False),
        (402, error("billing_error", "pay"), Kind.UPSTREAM_AUTH, Retry.NEXT, False),
        (403, error("permission_error", "no"), Kind.UPSTREAM_AUTH, Retry.NEXT, False),
        (404, error("not_found_error", "model: x"), Kind.UPSTREAM_REJECTED, Retry.NEXT, True),
        (413, error("request_too_large", "too large"), Kind.UPSTREAM_REJECTED, Retry.NEVER, True),
        (429, error("rate_limit_error", "slow"), Kind.UPSTREAM_RATE_LIMIT, Retry.NEXT, False),
        (500, error("api_error", "oops"), Kind.UPSTREAM_ERROR, Retry.SAME, False),
        (504, error("timeout_error", "late"), Kind.TIMEOUT, Retry.SAME, False),
        (529, error("overloaded_error", "busy"), Kind.UPSTREAM_ERROR, Retry.SAME, False),
        (400, b"<html>", Kind.UPSTREAM_REJECTED, Retry.NEVER, False),
        (302, b"", Kind.BAD_ANSWER, Retry.NEXT, False),
    ],
)  # fmt: skip
def test_a_providers_error_is_understood_and_shown_where_it_concerns_the_caller(
    status: int, body: bytes, kind: Kind, retry: Retry, shown: bool
) -> None:
    fault = decode_fault(status, body, 3.0)
    assert (fault.kind, fault.retry, fault.origin) == (kind, retry, Origin.UPSTREAM)
    assert fault.answer == (body if shown else None)
    assert encode_fault(fault) == body if shown else b"req_1" not in encode_fault(fault)


def test_how_long_to_wait_is_passed_on() -> None:
    assert decode_fault(429, b"", 3.0).retry_after == 3.0
    assert decode_fault(529, b"", 3.0).retry_after == 3.0


@given(status=st.integers(100, 599), body=st.binary(max_size=60))
def test_any_status_and_bytes_are_a_fault(status: int, body: bytes) -> None:
    fault = decode_fault(status, body)
    assert fault.kind in FAULTS
    assert json.loads(encode_fault(Fault(fault.kind, fault.public, status=fault.status)))["type"] == "error"


def test_an_error_that_is_too_long_is_not_read() -> None:
    assert decode_fault(400, error("invalid_request_error", "x" * LARGEST_ERROR)).answer is None
