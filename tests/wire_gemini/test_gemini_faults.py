"""Google's errors mean what they mean to the gateway, and the gateway's are told in Google's envelope."""

from __future__ import annotations

from typing import Any

import pytest
from gemini_kit import body_of, value_of
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import FAULTS, Fault, Kind, Origin, Retry
from ostiary.wire.dialects.gemini_generate.wire import DIALECT

INFO, WAIT = "type.googleapis.com/google.rpc.ErrorInfo", "type.googleapis.com/google.rpc.RetryInfo"


def error(status: int, word: str, message: str = "secret words", *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": status, "message": message, "status": word, "details": list(details)}}


@pytest.mark.parametrize(
    ("document", "kind", "retry", "status"),
    [
        (error(400, "INVALID_ARGUMENT"), Kind.UPSTREAM_REJECTED, Retry.NEVER, 400),
        (error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."), Kind.UPSTREAM_AUTH,
         Retry.NEXT, 502),
        (error(400, "INVALID_ARGUMENT", "x", {"@type": INFO, "reason": "API_KEY_INVALID"}), Kind.UPSTREAM_AUTH,
         Retry.NEXT, 502),
        (error(400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens allowed (8)."),
         Kind.CONTEXT_WINDOW, Retry.NEVER, 400),
        (error(401, "UNAUTHENTICATED"), Kind.UPSTREAM_AUTH, Retry.NEXT, 502),
        (error(403, "PERMISSION_DENIED"), Kind.UPSTREAM_AUTH, Retry.NEXT, 502),
        (error(404, "NOT_FOUND"), Kind.UPSTREAM_REJECTED, Retry.NEXT, 404),
        (error(429, "RESOURCE_EXHAUSTED"), Kind.UPSTREAM_RATE_LIMIT, Retry.NEXT, 429),
        (error(500, "INTERNAL"), Kind.UPSTREAM_ERROR, Retry.SAME, 500),
        (error(503, "UNAVAILABLE"), Kind.UPSTREAM_ERROR, Retry.SAME, 503),
        (error(504, "DEADLINE_EXCEEDED"), Kind.TIMEOUT, Retry.SAME, 504),
    ],
)  # fmt: skip
@pytest.mark.parametrize("listed", [False, True])
def test_an_error_is_known_alone_and_in_a_list(
    document: dict[str, Any], kind: Kind, retry: Retry, status: int, listed: bool
) -> None:
    body = body_of([document] if listed else document)
    fault = DIALECT.decode_fault(document["error"]["code"], body, None)
    assert (fault.kind, fault.retry, fault.status, fault.origin) == (kind, retry, status, Origin.UPSTREAM)
    assert "secret" not in fault.public
    assert fault.answer == (body if kind in (Kind.UPSTREAM_REJECTED, Kind.CONTEXT_WINDOW) else None)


@pytest.mark.parametrize(
    ("delay", "header", "seconds"),
    [("37s", None, 37.0), ("0.5s", None, 0.5), ("37s", 5.0, 5.0), ("soon", None, None), (37, None, None)],
)
def test_the_wait_that_is_asked_for_is_known(delay: Any, header: float | None, seconds: float | None) -> None:
    body = body_of(error(429, "RESOURCE_EXHAUSTED", "x", {"@type": INFO}, {"@type": WAIT, "retryDelay": delay}))
    assert DIALECT.decode_fault(429, body, header).retry_after == seconds


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (Kind.MALFORMED, "INVALID_ARGUMENT"),
        (Kind.INVALID_REQUEST, "INVALID_ARGUMENT"),
        (Kind.UNAUTHENTICATED, "UNAUTHENTICATED"),
        (Kind.EXPIRED_KEY, "UNAUTHENTICATED"),
        (Kind.MODEL_DENIED, "PERMISSION_DENIED"),
        (Kind.UNKNOWN_MODEL, "NOT_FOUND"),
        (Kind.BUDGET_EXCEEDED, "FAILED_PRECONDITION"),
        (Kind.RATE_LIMITED, "RESOURCE_EXHAUSTED"),
        (Kind.UPSTREAM_RATE_LIMIT, "RESOURCE_EXHAUSTED"),
        (Kind.OVERLOADED, "UNAVAILABLE"),
        (Kind.UPSTREAM_ERROR, "UNAVAILABLE"),
        (Kind.TIMEOUT, "DEADLINE_EXCEEDED"),
        (Kind.INTERNAL, "INTERNAL"),
    ],
)
def test_a_fault_has_googles_word(kind: Kind, word: str) -> None:
    fault = Fault(kind, "what to say")
    document = value_of(DIALECT.encode_fault(fault))
    assert document == {"error": {"code": FAULTS[kind][0], "message": "what to say", "status": word}}
    assert value_of(DIALECT.encode_fault_event(fault).removeprefix(b"data: ")) == document


@pytest.mark.parametrize("kind", [Kind.CONTEXT_WINDOW, Kind.CONTENT_POLICY])
def test_what_has_no_word_of_its_own_is_told_by_how_the_message_begins(kind: Kind) -> None:
    error = value_of(DIALECT.encode_fault(Fault(kind, "what to say")))["error"]
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert error["message"].endswith(": what to say")


def test_a_fault_tells_the_field_and_the_wait() -> None:
    fault = Fault(Kind.RATE_LIMITED, "slow down", param="contents", retry_after=1.5)
    field, wait = value_of(DIALECT.encode_fault(fault))["error"]["details"]
    assert field["fieldViolations"] == [{"field": "contents", "description": "slow down"}]
    assert wait == {"@type": WAIT, "retryDelay": "1.5s"}
    assert DIALECT.decode_fault(429, DIALECT.encode_fault(fault), None).retry_after == 1.5


def test_a_providers_own_error_body_is_told_as_it_is() -> None:
    body = body_of(error(400, "INVALID_ARGUMENT"))
    assert DIALECT.encode_fault(DIALECT.decode_fault(400, body, None)) == body


@given(status=st.integers(0, 999), body=st.binary(max_size=80) | st.just(b"[" * 5000) | st.just(b"[]"))
def test_any_status_and_bytes_are_a_fault_of_the_providers(status: int, body: bytes) -> None:
    fault = DIALECT.decode_fault(status, body, None)
    assert fault.origin is Origin.UPSTREAM
    assert fault.answer is None


def test_an_error_beyond_measure_is_not_relayed() -> None:
    assert DIALECT.decode_fault(400, body_of(error(400, "INVALID_ARGUMENT", "x" * 70_000)), None).answer is None
