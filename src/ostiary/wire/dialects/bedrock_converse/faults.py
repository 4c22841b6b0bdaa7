"""Errors of this dialect: writing ours, reading a provider's. It must not let a provider's secret talk pass.

Source: botocore 1.44, `bedrock-runtime` 2023-09-30. An error is a status, its name in the header `x-amzn-ErrorType` or
in the body's `__type`, and {"message": str}. Within a stream it is a message of type "exception" whose header
`:exception-type` is the name of a member of ConverseStreamOutput.
"""

from __future__ import annotations

import msgspec

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.wire.conversation.members import UNREADABLE, Members
from ostiary.wire.framing.event_stream import write_message

_VALIDATION = "ValidationException"
_NAMES = {
    401: "AccessDeniedException",
    402: "AccessDeniedException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
    504: "ModelTimeoutException",
}
_STATUSES = {
    "AccessDeniedException": 403,
    "ResourceNotFoundException": 404,
    "ModelTimeoutException": 408,
    "ModelErrorException": 424,
    "ModelNotReadyException": 429,
    "ThrottlingException": 429,
    "ServiceUnavailableException": 503,
    "InternalServerException": 500,
    _VALIDATION: 400,
}
# What may stand in a stream: the name there, and the status it would have had before.
STREAM_STATUSES = {
    "internalServerException": 500,
    "modelStreamErrorException": 424,
    "serviceUnavailableException": 503,
    "throttlingException": 429,
    "validationException": 400,
}
_STREAM_NAMES = {429: "throttlingException", 503: "serviceUnavailableException", 500: "internalServerException"}
_CONTEXT_WORDS = (
    "input is too long",
    "prompt is too long",
    "too many tokens",
    "too many input tokens",
    "maximum context length",
    "exceed context limit",
    "context window",
)
_POLICY_WORDS = ("content filtering policy", "content policy", "blocked by guardrail")
# What the messages begin with by which clients know these faults: they have no name of their own.
_BEGINNINGS = {
    Kind.CONTEXT_WINDOW: "Input is too long for requested model.",
    Kind.CONTENT_POLICY: "Blocked by content filtering policy.",
}
# Statuses whose body concerns the caller's own request and is relayed as it came.
_CALLERS_FAULT = frozenset({400, 404, 409, 413, 415, 422})
LARGEST_ERROR = 64 * 1024


class _Error(msgspec.Struct):
    message: str | None = None
    Message: str | None = None  # as AWS's front doors write it
    type_: str | None = msgspec.field(name="__type", default=None)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Error).decode


def encode_fault(fault: Fault) -> bytes:
    """The error body for a fault. Its name stands in it, because a body is all that is written here."""
    name = _NAMES.get(fault.status) or (_VALIDATION if 400 <= fault.status < 500 else "InternalServerException")
    if fault.answer is None:
        return _encode({"__type": name, "message": _words(fault)})
    members = Members.of(fault.answer)
    if members is None or "__type" in members:
        return fault.answer
    said = {extra.path[0]: extra.value for extra in members.rest("")}
    return _encode({"__type": name, **said})


def _words(fault: Fault) -> str:
    begin = _BEGINNINGS.get(fault.kind)
    return f"{begin} ({fault.public})" if begin else fault.public


def encode_fault_event(fault: Fault) -> bytes:
    """The error as the last message of a stream that has begun."""
    name = _STREAM_NAMES.get(fault.status)
    if name is None and fault.origin is Origin.UPSTREAM and fault.status >= 500:
        name = "modelStreamErrorException"
    if name is None:
        name = "validationException" if 400 <= fault.status < 500 else "internalServerException"
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return write_message(headers, _encode({"message": _words(fault)}))


def decode_fault(status: int, body: bytes, retry_after: float | None = None) -> Fault:
    """What a provider's error answer means. Total: any status and bytes give a Fault.

    Client errors carry the provider's body in `answer`, to be relayed; everything that concerns the gateway's own
    credentials, the provider's health or an unreadable body does not.
    """
    error = _read(body)
    words = (error.message or error.Message or "").lower() if error is not None else ""
    answer = body if error is not None and status in _CALLERS_FAULT else None
    if status in (400, 413, 422) and any(phrase in words for phrase in _CONTEXT_WORDS):
        return _fault(Kind.CONTEXT_WINDOW, "the request is longer than the model's context", status, answer=answer)
    if status in (400, 403, 422) and any(phrase in words for phrase in _POLICY_WORDS):
        return _fault(Kind.CONTENT_POLICY, "the provider's content policy refused the request", 400, answer=answer)
    if status in (401, 402, 403):
        return _fault(Kind.UPSTREAM_AUTH, "the provider refused the gateway's credential", 502, Retry.NEXT)
    if status == 429:
        public = "the provider's rate limit is reached"
        return _fault(Kind.UPSTREAM_RATE_LIMIT, public, 429, Retry.NEXT, retry_after=retry_after)
    if status == 404:
        return _fault(Kind.UPSTREAM_REJECTED, "the provider does not know this", 404, Retry.NEXT, answer=answer)
    if status == 408:
        return _fault(Kind.TIMEOUT, "the provider timed out", 504, Retry.SAME, retry_after=retry_after)
    if status == 424:  # the model failed, though the request was right
        return _fault(Kind.UPSTREAM_ERROR, "the provider failed", 502, Retry.SAME, retry_after=retry_after)
    if 400 <= status < 500:
        return _fault(Kind.UPSTREAM_REJECTED, "the provider refused the request", status, answer=answer)
    if status >= 500:
        return _fault(Kind.UPSTREAM_ERROR, "the provider failed", status, Retry.SAME, retry_after=retry_after)
    return _fault(Kind.BAD_ANSWER, "the provider gave an answer that is none", 502, Retry.NEXT)


def hidden_error(body: bytes) -> Fault | None:
    """The fault for an error that came with status 200; None where the body is no error."""
    error = _read(body)
    if error is None or (error.type_ is None and error.message is None and error.Message is None):
        return None
    return decode_fault(_STATUSES.get((error.type_ or "").rpartition("#")[2], 502), body)


def bad_answer() -> Fault:
    """The fault for an answer that is no answer."""
    return _fault(Kind.BAD_ANSWER, "the provider's answer is not readable", 502, Retry.NEXT)


def truncated() -> Fault:
    """The fault for a stream that did not come to its end."""
    return _fault(Kind.TRUNCATED, "the provider's answer ended too early", 502, Retry.SAME)


def _read(body: bytes) -> _Error | None:
    if len(body) > LARGEST_ERROR:
        return None
    try:
        return _decode(body)
    except UNREADABLE:
        return None


def _fault(
    kind: Kind,
    public: str,
    status: int,
    retry: Retry = Retry.NEVER,
    *,
    answer: bytes | None = None,
    retry_after: float | None = None,
) -> Fault:
    return Fault(
        kind, public, origin=Origin.UPSTREAM, retry=retry, status=status, answer=answer, retry_after=retry_after
    )
