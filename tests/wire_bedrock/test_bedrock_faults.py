"""Errors as botocore raises them, and what a provider's errors mean."""

from __future__ import annotations

import json

import pytest
from bedrock_kit import SERVICE, outcome
from botocore.errorfactory import ClientExceptionsFactory
from botocore.parsers import RestJSONParser
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import FAULTS, Fault, Kind, Origin, Retry
from ostiary.wire.dialects.bedrock_converse.faults import decode_fault, encode_fault, encode_fault_event, hidden_error
from ostiary.wire.framing.event_stream import EventStreamFramer

EXCEPTIONS = ClientExceptionsFactory().create_client_exceptions(SERVICE)


def raised(status: int, body: bytes) -> tuple[type[Exception], str]:
    """The exception class that a client of botocore would raise, and its message."""
    response = {"body": body, "headers": {}, "status_code": status}
    error = RestJSONParser().parse(response, SERVICE.operation_model("Converse").output_shape)["Error"]
    return EXCEPTIONS.from_code(error["Code"]), error["Message"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Kind.INVALID_REQUEST, "ValidationException"),
        (Kind.TOO_LARGE, "ValidationException"),
        (Kind.UNAUTHENTICATED, "AccessDeniedException"),
        (Kind.MODEL_DENIED, "AccessDeniedException"),
        (Kind.UNKNOWN_MODEL, "ResourceNotFoundException"),
        (Kind.RATE_LIMITED, "ThrottlingException"),
        (Kind.INTERNAL, "InternalServerException"),
        (Kind.BAD_ANSWER, "InternalServerException"),
        (Kind.UNAVAILABLE, "ServiceUnavailableException"),
        (Kind.TIMEOUT, "ModelTimeoutException"),
    ],
)
def test_botocore_raises_the_exception_of_its_own_service(kind: Kind, name: str) -> None:
    fault = Fault(kind, "what is wrong")
    assert raised(fault.status, encode_fault(fault)) == (getattr(EXCEPTIONS, name), "what is wrong")


def test_a_request_that_is_too_long_is_told_in_the_services_words() -> None:
    fault = Fault(Kind.CONTEXT_WINDOW, "why")
    words = "Input is too long for requested model. (why)"
    assert raised(400, encode_fault(fault)) == (EXCEPTIONS.ValidationException, words)


@given(kind=st.sampled_from(list(Kind)))
def test_every_fault_is_an_error_and_a_frame_of_this_dialect(kind: Kind) -> None:
    fault = Fault(kind, "p")
    assert issubclass(raised(FAULTS[kind][0], encode_fault(fault))[0], EXCEPTIONS.ClientError)
    (message,) = EventStreamFramer().feed(encode_fault_event(fault))
    assert message.headers[":message-type"] == "exception"
    assert message.headers[":exception-type"] in SERVICE.shape_for("ConverseStreamOutput").members


def test_a_providers_own_error_is_relayed_with_its_name_in_it() -> None:
    body = b'{"message":"the tool \\"f\\" is unknown","extra":1}'
    fault = decode_fault(400, body)
    assert fault.answer == body
    assert json.loads(encode_fault(fault)) == {"__type": "ValidationException", **json.loads(body)}
    assert raised(400, encode_fault(fault)) == (EXCEPTIONS.ValidationException, 'the tool "f" is unknown')
    named = b'{"__type":"x#ValidationException","message":"m"}'
    assert encode_fault(decode_fault(400, named)) == named


@pytest.mark.parametrize(
    ("status", "message", "kind", "retry", "ours"),
    [
        (400, "Input is too long for requested model.", Kind.CONTEXT_WINDOW, Retry.NEVER, 400),
        (400, "Too many tokens in the request", Kind.CONTEXT_WINDOW, Retry.NEVER, 400),
        (400, "prompt is too long: 300000 tokens > 200000", Kind.CONTEXT_WINDOW, Retry.NEVER, 400),
        (400, "Output blocked by content filtering policy", Kind.CONTENT_POLICY, Retry.NEVER, 400),
        (400, "The provided model identifier is invalid.", Kind.UPSTREAM_REJECTED, Retry.NEVER, 400),
        (403, "You don't have access to the model", Kind.UPSTREAM_AUTH, Retry.NEXT, 502),
        (404, "Model not found", Kind.UPSTREAM_REJECTED, Retry.NEXT, 404),
        (408, "Model timed out", Kind.TIMEOUT, Retry.SAME, 504),
        (424, "The model failed", Kind.UPSTREAM_ERROR, Retry.SAME, 502),
        (429, "Too many tokens, please wait before trying again.", Kind.UPSTREAM_RATE_LIMIT, Retry.NEXT, 429),
        (500, "boom", Kind.UPSTREAM_ERROR, Retry.SAME, 500),
        (503, "busy", Kind.UPSTREAM_ERROR, Retry.SAME, 503),
        (200, "odd", Kind.BAD_ANSWER, Retry.NEXT, 502),
    ],
)
def test_what_a_providers_error_means(status: int, message: str, kind: Kind, retry: Retry, ours: int) -> None:
    for member in ("message", "Message"):
        fault = decode_fault(status, json.dumps({member: message}).encode(), 3.0)
        assert (fault.kind, fault.retry, fault.status, fault.origin) == (kind, retry, ours, Origin.UPSTREAM)
        assert message not in fault.public
        assert (fault.answer is not None) is (ours == status and 400 <= status < 429)


def test_how_long_to_wait_is_told_where_it_helps() -> None:
    assert decode_fault(429, b"{}", 3.0).retry_after == 3.0
    assert decode_fault(503, b"{}", 3.0).retry_after == 3.0
    assert decode_fault(400, b"{}", 3.0).retry_after is None


@given(status=st.integers(100, 999), body=st.binary(max_size=40) | st.just(b'{"message":5}') | st.just(b"[" * 5000))
def test_any_status_and_bytes_give_a_fault(status: int, body: bytes) -> None:
    assert isinstance(decode_fault(status, body), Fault)
    value, fault = outcome(lambda: hidden_error(body))
    assert fault is None
    assert value is None or value.origin is Origin.UPSTREAM
    assert encode_fault(decode_fault(status, body))


def test_an_error_too_large_to_be_one_is_not_relayed() -> None:
    body = json.dumps({"message": "x" * 70_000}).encode()
    assert decode_fault(400, body).answer is None
