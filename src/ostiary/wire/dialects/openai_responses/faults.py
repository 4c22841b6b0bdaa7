"""Errors in the OpenAI envelope: writing ours, reading a provider's. It must not let a provider's secret talk pass.

Envelope: {"error": {"message": str, "type": str, "param": str|null, "code": str|null}}; `code` is a string, the
status for our own faults but for the two that clients look for by name. Within a stream: `ResponseErrorEvent`, and
`ResponseError` in a response that failed (official Python SDK 3.54, `types.responses`), whose codes are a closed list.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.core.fault import Fault, Kind, Origin, Retry


class _Error(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: str | None


class _Envelope(msgspec.Struct):
    error: _Error


class _UpstreamError(msgspec.Struct):
    message: str | None = None
    type: str | None = None
    code: str | int | None = None
    param: str | None = None


class _UpstreamEnvelope(msgspec.Struct):
    error: _UpstreamError | str | None = None


_encode = msgspec.json.Encoder().encode
_envelope = msgspec.json.Decoder(_UpstreamEnvelope).decode
_error = msgspec.json.Decoder(_UpstreamError).decode

_CONTEXT_CODES = frozenset({"context_length_exceeded", "string_above_max_length", "context_window_exceeded"})
_CONTEXT_WORDS = (
    "maximum context length",
    "context window",
    "context length",
    "prompt is too long",
    "too many tokens",
    "exceeds the available context size",
)
_CONTENT_CODES = frozenset(
    {
        "bio_policy",
        "content_filter",
        "content_policy_violation",
        "image_content_policy_violation",
        "misalignment_policy_violation",
        "moderation_blocked",
        "responsibleaipolicyviolation",
    }
)
_CONTENT_WORDS = ("usage polic", "content polic")
# The codes of the faults that clients act upon; the status for all others.
_NAMED = {Kind.CONTEXT_WINDOW: "context_length_exceeded", Kind.CONTENT_POLICY: "content_policy_violation"}
# What the message of a failed response begins with where its code has to be a general one.
_WORDS = {Kind.CONTEXT_WINDOW: "input exceeds the context window", Kind.CONTENT_POLICY: "refused by a usage policy"}
# Statuses whose body concerns the caller's own request and is relayed as it came.
_CALLERS_FAULT = frozenset({400, 404, 409, 413, 415, 422, 451})
# The statuses of the codes of a response that failed; a code that is not here is about the request.
_STATUSES = {
    "": 502,
    "server_error": 502,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "vector_store_timeout": 504,
    "server_is_overloaded": 503,
    "slow_down": 503,
}
# The code of a failed response for a kind of failure; a failure of the server's for all others.
_CODES = {
    Kind.UPSTREAM_RATE_LIMIT: "rate_limit_exceeded",
    Kind.RATE_LIMITED: "rate_limit_exceeded",
    Kind.CONTEXT_WINDOW: "invalid_prompt",
    Kind.CONTENT_POLICY: "invalid_prompt",
    Kind.INVALID_REQUEST: "invalid_prompt",
    Kind.UPSTREAM_REJECTED: "invalid_prompt",
}
LARGEST_ERROR = 64 * 1024
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode_fault(fault: Fault) -> bytes:
    """The error body for a fault."""
    if fault.answer is not None:
        return fault.answer
    return _encode(_Envelope(_Error(fault.public, fault.type, fault.param, _code(fault))))


def encode_fault_event(fault: Fault) -> bytes:
    """The error as an event of a stream. It stands alone: its number is the first."""
    event = {
        "type": "error",
        "sequence_number": 0,
        "code": _code(fault),
        "message": fault.public,
        "param": fault.param,
    }
    return b"event: error\ndata: " + _encode(event) + b"\n\n"


def failure(fault: Fault) -> dict[str, Any]:
    """The `error` member of a response that failed."""
    begin = _WORDS.get(fault.kind)
    message = f"{begin}: {fault.public}" if begin else fault.public
    return {"code": _CODES.get(fault.kind, "server_error"), "message": message}


def _code(fault: Fault) -> str:
    return _NAMED.get(fault.kind, str(fault.status))


def decode_failure(error: bytes | msgspec.Raw) -> Fault:
    """What the `error` member of a failed response, or an error event, means. Total."""
    if len(error) > LARGEST_ERROR:
        return decode_fault(502, b"")
    try:
        found = _error(error)
    except _UNREADABLE:
        return decode_fault(502, b"")
    code = str(found.code or "").lower()
    status = int(code) if len(code) == 3 and code.isdecimal() and "400" <= code < "600" else _STATUSES.get(code, 400)
    fault = decode_fault(status, _encode(_UpstreamEnvelope(found)))
    fault.answer = None  # it is no body of its own
    return fault


def decode_fault(status: int, body: bytes, retry_after: float | None = None) -> Fault:
    """What a provider's error answer means. Total: any status and bytes give a Fault.

    Client errors carry the provider's body in `answer`, to be relayed unchanged; everything that concerns the
    gateway's own credentials, the provider's health or an unreadable body does not.
    """
    error = _read(body)
    code = str(error.code or "").lower() if error else ""
    words = (error.message or "").lower() if error else ""
    kind_of_error = (error.type or "").lower() if error else ""
    answer = body if error and status in _CALLERS_FAULT else None
    if status in (400, 413, 422) and (code in _CONTEXT_CODES or any(phrase in words for phrase in _CONTEXT_WORDS)):
        return _fault(Kind.CONTEXT_WINDOW, "the request is longer than the model's context", status, answer=answer)
    flagged = code == "invalid_prompt" and any(phrase in words for phrase in _CONTENT_WORDS)
    if status in (400, 403, 422) and (flagged or code in _CONTENT_CODES or kind_of_error in _CONTENT_CODES):
        return _fault(Kind.CONTENT_POLICY, "the provider's content policy refused the request", 400, answer=answer)
    if status in (401, 402, 403):  # 402: the account has no money, and the account is the operator's
        return _fault(Kind.UPSTREAM_AUTH, "the provider refused the gateway's credential", 502, retry=Retry.NEXT)
    if status == 429:
        return _fault(
            Kind.UPSTREAM_RATE_LIMIT, "the provider's rate limit is reached", 429, Retry.NEXT, retry_after=retry_after
        )
    if status == 404:
        return _fault(Kind.UPSTREAM_REJECTED, "the provider does not know this", 404, Retry.NEXT, answer=answer)
    if status == 408:
        return _fault(Kind.TIMEOUT, "the provider timed out", 504, Retry.SAME, retry_after=retry_after)
    if 400 <= status < 500:
        return _fault(Kind.UPSTREAM_REJECTED, "the provider refused the request", status, answer=answer)
    if status >= 500:
        return _fault(Kind.UPSTREAM_ERROR, "the provider failed", status, Retry.SAME, retry_after=retry_after)
    return bad_answer()


def bad_answer() -> Fault:
    """The fault for an answer that is no answer."""
    return _fault(Kind.BAD_ANSWER, "the provider's answer is not readable", 502, Retry.NEXT)


def truncated() -> Fault:
    """The fault for an answer that did not come to its end."""
    return _fault(Kind.TRUNCATED, "the provider's answer ended too early", 502, Retry.SAME)


def _read(body: bytes) -> _UpstreamError | None:
    if len(body) > LARGEST_ERROR:
        return None
    try:
        error = _envelope(body).error
    except _UNREADABLE:
        return None
    return _UpstreamError(message=error) if isinstance(error, str) else error


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
