"""Errors in this dialect's envelope: writing ours, reading a provider's. It must not let a provider's secret talk pass.

Envelope: {"type": "error", "error": {"type": str, "message": str}, "request_id"?: str} (official Python SDK 2.12,
`types.shared.ErrorResponse`); types and statuses as in the API's documentation of errors
(platform.claude.com/docs/en/api/errors).
"""

from __future__ import annotations

import msgspec

from ostiary.core.fault import Fault, Kind, Origin, Retry


class _Error(msgspec.Struct):
    type: str
    message: str


class _Envelope(msgspec.Struct):
    error: _Error
    type: str = "error"


class _UpstreamError(msgspec.Struct):
    type: str | None = None
    message: str | None = None


class _UpstreamEnvelope(msgspec.Struct):
    error: _UpstreamError | str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_UpstreamEnvelope).decode

_TYPES = {
    Kind.TOO_LARGE: "request_too_large",
    Kind.UNAUTHENTICATED: "authentication_error",
    Kind.EXPIRED_KEY: "authentication_error",
    Kind.BLOCKED_KEY: "authentication_error",
    Kind.MODEL_DENIED: "permission_error",
    Kind.ROUTE_DENIED: "permission_error",
    Kind.UNKNOWN_MODEL: "not_found_error",
    Kind.NOT_FOUND: "not_found_error",
    Kind.BUDGET_EXCEEDED: "billing_error",
    Kind.UNKNOWN_PRICE: "billing_error",
    Kind.RATE_LIMITED: "rate_limit_error",
    Kind.NO_DEPLOYMENT: "rate_limit_error",
    Kind.UPSTREAM_RATE_LIMIT: "rate_limit_error",
    Kind.OVERLOADED: "overloaded_error",
    Kind.UNAVAILABLE: "overloaded_error",
    Kind.STOPPING: "overloaded_error",
    Kind.CLIENT_TIMEOUT: "timeout_error",
    Kind.TIMEOUT: "timeout_error",
}
# For the kinds that are not there: what the status says.
_BY_STATUS = {404: "not_found_error", 413: "request_too_large", 504: "timeout_error", 529: "overloaded_error"}
# The status of an error that comes without one, in a stream or in an answer with status 200.
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_CONTEXT_WORDS = (
    "prompt is too long",
    "exceed context limit",
    "maximum context length",
    "context window",
    "exceeds the available context size",
)
_CONTENT_WORDS = ("content filtering policy", "content policy", "usage policy", "acceptable use policy")
# Clients that shorten a conversation look for the first of these.
_BEGINNINGS = {Kind.CONTEXT_WINDOW: "prompt is too long", Kind.CONTENT_POLICY: "blocked by content filtering policy"}
_BILLING_WORDS = ("credit balance is too low",)
# Statuses whose body concerns the caller's own request and is relayed as it came.
_CALLERS_FAULT = frozenset({400, 404, 409, 413, 415, 422, 451})
LARGEST_ERROR = 64 * 1024


def encode_fault(fault: Fault) -> bytes:
    """The error body for a fault."""
    if fault.answer is not None:
        return fault.answer
    begin = _BEGINNINGS.get(fault.kind)
    words = f"{begin}: {fault.public}" if begin else fault.public
    return _encode(_Envelope(_Error(_type_of(fault), words)))


def _type_of(fault: Fault) -> str:
    known = _TYPES.get(fault.kind) or _BY_STATUS.get(fault.status)
    if known is not None:
        return known
    return "invalid_request_error" if fault.status < 500 else "api_error"


def encode_fault_event(fault: Fault) -> bytes:
    """The error as a server-sent event of a stream that has begun. No `message_stop` follows it."""
    body = encode_fault(fault).replace(b"\r", b" ").replace(b"\n", b" ")  # only between the tokens of JSON
    return b"event: error\ndata: " + body + b"\n\n"


def decode_fault(status: int, body: bytes, retry_after: float | None = None) -> Fault:
    """What a provider's error answer means. Total: any status and bytes give a Fault.

    Client errors carry the provider's body in `answer`, to be relayed unchanged; everything that concerns the
    gateway's own credentials, the provider's health or an unreadable body does not.
    """
    error = _read(body)
    words = (error.message or "").lower() if error else ""
    kind = (error.type or "").lower() if error else ""
    answer = body if error and status in _CALLERS_FAULT else None
    if status in (400, 413, 422) and any(phrase in words for phrase in _CONTEXT_WORDS):
        return _fault(Kind.CONTEXT_WINDOW, "the request is longer than the model's context", status, answer=answer)
    if status in (401, 402, 403) or kind == "billing_error" or any(phrase in words for phrase in _BILLING_WORDS):
        return _fault(Kind.UPSTREAM_AUTH, "the provider refused the gateway's credential", 502, Retry.NEXT)
    if status in (400, 422) and any(phrase in words for phrase in _CONTENT_WORDS):
        return _fault(Kind.CONTENT_POLICY, "the provider's content policy refused the request", 400, answer=answer)
    if status == 429:
        return _fault(
            Kind.UPSTREAM_RATE_LIMIT, "the provider's rate limit is reached", 429, Retry.NEXT, retry_after=retry_after
        )
    if status == 404:
        return _fault(Kind.UPSTREAM_REJECTED, "the provider does not know this", 404, Retry.NEXT, answer=answer)
    if status in (408, 504):
        return _fault(Kind.TIMEOUT, "the provider timed out", 504, Retry.SAME, retry_after=retry_after)
    if status == 529:
        return _fault(Kind.UPSTREAM_ERROR, "the provider is overloaded", 529, Retry.SAME, retry_after=retry_after)
    if 400 <= status < 500:
        return _fault(Kind.UPSTREAM_REJECTED, "the provider refused the request", status, answer=answer)
    if status >= 500:
        return _fault(Kind.UPSTREAM_ERROR, "the provider failed", status, Retry.SAME, retry_after=retry_after)
    return _fault(Kind.BAD_ANSWER, "the provider gave an answer that is none", 502, Retry.NEXT)


def hidden_error(body: bytes) -> Fault:
    """The fault for an error object in a stream, or that came with status 200."""
    error = _read(body)
    return decode_fault(_STATUSES.get((error.type or "") if error else "", 502), body)


def _read(body: bytes) -> _UpstreamError | None:
    if len(body) > LARGEST_ERROR:
        return None
    try:
        error = _decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
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
