"""Errors in the OpenAI envelope: what a client is told, and what a provider's error means."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import Fault, Kind, Retry
from ostiary.wire.dialects.openai_responses.faults import decode_failure, decode_fault, encode_fault


def error(**members: Any) -> bytes:
    return json.dumps({"error": members}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "retry", "relayed"),
    [
        (400, error(code="context_length_exceeded", message="x"), Kind.CONTEXT_WINDOW, Retry.NEVER, True),
        (
            400,
            error(message="Your input exceeds the context window of this model"),
            Kind.CONTEXT_WINDOW,
            Retry.NEVER,
            True,
        ),
        (400, error(code="content_filter", message="x"), Kind.CONTENT_POLICY, Retry.NEVER, True),
        (
            400,
            error(code="invalid_prompt", message="violates our usage policy"),
            Kind.CONTENT_POLICY,
            Retry.NEVER,
            True,
        ),
        (400, error(code="invalid_prompt", message="odd"), Kind.UPSTREAM_REJECTED, Retry.NEVER, True),
        (400, error(message="bad"), Kind.UPSTREAM_REJECTED, Retry.NEVER, True),
        (401, error(message="key sk-secret"), Kind.UPSTREAM_AUTH, Retry.NEXT, False),
        (402, error(message="no money"), Kind.UPSTREAM_AUTH, Retry.NEXT, False),
        (404, error(message="no such response"), Kind.UPSTREAM_REJECTED, Retry.NEXT, True),
        (408, b"", Kind.TIMEOUT, Retry.SAME, False),
        (429, error(message="slow"), Kind.UPSTREAM_RATE_LIMIT, Retry.NEXT, False),
        (500, error(message="boom"), Kind.UPSTREAM_ERROR, Retry.SAME, False),
        (400, b"<html>", Kind.UPSTREAM_REJECTED, Retry.NEVER, False),
        (200, b"", Kind.BAD_ANSWER, Retry.NEXT, False),
    ],
)
def test_a_providers_error_is_understood(status: int, body: bytes, kind: Kind, retry: Retry, relayed: bool) -> None:
    fault = decode_fault(status, body, 3.0)
    assert (fault.kind, fault.retry) == (kind, retry)
    assert fault.answer == (body if relayed else None)
    assert "secret" not in fault.public


def test_the_time_to_wait_is_kept_where_waiting_helps() -> None:
    assert decode_fault(429, b"", 3.0).retry_after == 3.0
    assert decode_fault(400, b"", 3.0).retry_after is None


@given(status=st.integers(0, 999), body=st.binary(max_size=60))
def test_any_status_and_bytes_are_a_fault(status: int, body: bytes) -> None:
    assert isinstance(decode_fault(status, body), Fault)
    assert decode_failure(body).answer is None


def test_too_large_an_error_is_not_read() -> None:
    body = error(code="context_length_exceeded", message="x" * 70_000)
    assert decode_fault(400, body).kind is Kind.UPSTREAM_REJECTED
    assert decode_failure(json.dumps({"code": "rate_limit_exceeded", "message": "x" * 70_000}).encode()).status == 502


def test_our_own_faults_have_the_envelope_and_a_providers_body_is_relayed() -> None:
    fault = Fault(Kind.RATE_LIMITED, "too many", param="x")
    assert json.loads(encode_fault(fault)) == {
        "error": {"message": "too many", "type": "rate_limit_error", "param": "x", "code": "429"}
    }
    assert encode_fault(Fault(Kind.UPSTREAM_REJECTED, "no", answer=b"{}")) == b"{}"
