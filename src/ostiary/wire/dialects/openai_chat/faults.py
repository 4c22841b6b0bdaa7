"""Errors in the OpenAI envelope: writing ours, reading a provider's. It must not let a provider's secret talk pass.

Envelope: {"error": {"message": str, "type": str, "param": str|null, "code": str|null}}; `code` is a string, the
status for our own faults.
"""

from __future__ import annotations

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
_decode = msgspec.json.Decoder(_UpstreamEnvelope).decode

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
    {"content_filter", "content_policy_violation", "responsibleaipolicyviolation", "moderation_blocked"}
)
# Statuses whose body concerns the caller's own request and is relayed as it came.
_CALLERS_FAULT = frozenset({400, 404, 409, 413, 415, 422, 451})
LARGEST_ERROR = 64 * 1024


def encode_fault(fault: Fault) -> bytes:
    """The error body for a fault."""
    if fault.answer is not None:
        return fault.answer
    return _encode(_Envelope(_Error(fault.public, fault.type, fault.param, str(fault.status))))


def encode_fault_event(fault: Fault) -> bytes:
    """The error as a server-sent event of a stream that has begun. No `[DONE]` follows it."""
    return b"data: " + encode_fault(fault) + b"\n\n"


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
    if status in (400, 403, 422) and (code in _CONTENT_CODES or kind_of_error in _CONTENT_CODES):
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
    return _fault(Kind.BAD_ANSWER, "the provider gave an answer that is none", 502, Retry.NEXT)


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
