"""Errors in Google's envelope: writing ours, reading a provider's. It must not let a provider's secret talk pass.

Envelope: {"error": {"code": int, "message": str, "status": str, "details": [...]}}, often in a list of one where a
stream was asked for. A key that is not valid is answered with status 400 and the reason API_KEY_INVALID. Source:
google.rpc (`Status`, `Code`, `ErrorInfo`, `RetryInfo`) and the errors that the official Python SDK 3.4 reads.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.wire.dialects.gemini_generate.fields import encode
from ostiary.wire.framing.sse import sse_event

LARGEST_ERROR = 64 * 1024
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "INVALID_ARGUMENT",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_KINDS = {
    Kind.BUDGET_EXCEEDED: "FAILED_PRECONDITION",
    Kind.UNKNOWN_PRICE: "FAILED_PRECONDITION",
    Kind.TIMEOUT: "DEADLINE_EXCEEDED",
    Kind.CLIENT_TIMEOUT: "DEADLINE_EXCEEDED",
    Kind.UPSTREAM_RATE_LIMIT: "RESOURCE_EXHAUSTED",
    Kind.RATE_LIMITED: "RESOURCE_EXHAUSTED",
}
# The HTTP status for each word, for errors that come without one.
_CODES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNKNOWN": 500,
    "DATA_LOSS": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_CONTEXT_WORDS = (
    "exceeds the maximum number of tokens",
    "maximum number of input tokens",
    "input token count",
    "context window",
    "context length",
    "too many tokens",
)
_KEY_REASONS = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED", "ACCESS_TOKEN_EXPIRED"})
_KEY_WORDS = ("api key not valid", "api key not found", "api key expired")
_CONTENT_WORDS = ("prohibited content", "safety policies", "blocked by model armor", "responsible ai")
# What the messages begin with by which clients know these faults: they have no status of their own.
_BEGINNINGS = {
    Kind.CONTEXT_WINDOW: "The input token count exceeds the maximum number of tokens allowed",
    Kind.CONTENT_POLICY: "Prohibited content",
}
# Statuses whose body concerns the caller's own request and is relayed as it came.
_CALLERS_FAULT = frozenset({400, 404, 409, 413, 415, 422, 451})
_SECONDS = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")


class _Detail(msgspec.Struct):
    reason: Any = None
    retry_delay: Any = msgspec.field(name="retryDelay", default=None)


class _Error(msgspec.Struct):
    code: Any = None
    message: Any = None
    status: Any = None
    details: Any = None


class _Envelope(msgspec.Struct):
    error: _Error


_decode = msgspec.json.Decoder(_Envelope | list[_Envelope]).decode


def encode_fault(fault: Fault) -> bytes:
    """The error body for a fault."""
    if fault.answer is not None:
        return fault.answer
    status = _KINDS.get(fault.kind) or _STATUSES.get(fault.status) or "INTERNAL"
    error: dict[str, Any] = {"code": fault.status, "message": _words(fault), "status": status}
    details = []
    if fault.param is not None:
        violation = {"field": fault.param, "description": fault.public}
        details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]})
    if fault.retry_after is not None:
        delay = f"{max(fault.retry_after, 0):.3f}".rstrip("0").rstrip(".")
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{delay}s"})
    if details:
        error["details"] = details
    return encode({"error": error})


def _words(fault: Fault) -> str:
    begin = _BEGINNINGS.get(fault.kind)
    return f"{begin}: {fault.public}" if begin else fault.public


def encode_fault_event(fault: Fault) -> bytes:
    """The error as a server-sent event of a stream that has begun. Nothing follows it."""
    return sse_event(encode_fault(fault))


def decode_fault(status: int, body: bytes, retry_after: float | None = None) -> Fault:
    """What a provider's error answer means. Total: any status and bytes give a Fault.

    Client errors carry the provider's body in `answer`, to be relayed unchanged; everything that concerns the
    gateway's own credentials, the provider's health or an unreadable body does not.
    """
    error = _read(body)
    words = error.message.lower() if error is not None and isinstance(error.message, str) else ""
    details = _details(error)
    answer = body if error is not None and status in _CALLERS_FAULT else None
    refused = any(detail.reason in _KEY_REASONS for detail in details if isinstance(detail.reason, str))
    if status in (401, 402, 403) or (status == 400 and (refused or any(phrase in words for phrase in _KEY_WORDS))):
        return _fault(Kind.UPSTREAM_AUTH, "the provider refused the gateway's credential", 502, Retry.NEXT)
    if status in (400, 413, 422) and any(phrase in words for phrase in _CONTEXT_WORDS):
        return _fault(Kind.CONTEXT_WINDOW, "the request is longer than the model's context", status, answer=answer)
    if status in (400, 422) and any(phrase in words for phrase in _CONTENT_WORDS):
        return _fault(Kind.CONTENT_POLICY, "the provider's content policy refused the request", 400, answer=answer)
    wait = retry_after if retry_after is not None else _delay(details)
    if status == 429:
        public = "the provider's rate limit is reached"
        return _fault(Kind.UPSTREAM_RATE_LIMIT, public, 429, Retry.NEXT, retry_after=wait)
    if status == 404:
        return _fault(Kind.UPSTREAM_REJECTED, "the provider does not know this", 404, Retry.NEXT, answer=answer)
    if status in (408, 504):
        return _fault(Kind.TIMEOUT, "the provider timed out", 504, Retry.SAME, retry_after=wait)
    if 400 <= status < 500:
        return _fault(Kind.UPSTREAM_REJECTED, "the provider refused the request", status, answer=answer)
    if status >= 500:
        return _fault(Kind.UPSTREAM_ERROR, "the provider failed", status, Retry.SAME, retry_after=wait)
    return _fault(Kind.BAD_ANSWER, "the provider gave an answer that is none", 502, Retry.NEXT)


def hidden_error(body: bytes) -> Fault:
    """The fault for an error object that came with status 200."""
    error = _read(body)
    code = error.code if error is not None else None
    if not isinstance(code, int) or isinstance(code, bool) or not 400 <= code < 600:
        word = error.status if error is not None else None
        code = _CODES.get(word, 502) if isinstance(word, str) else 502
    return decode_fault(code, body)


def bad_answer() -> Fault:
    """The fault for an answer that is no answer."""
    return Fault(Kind.BAD_ANSWER, "the provider's answer is not readable", origin=Origin.UPSTREAM, retry=Retry.NEXT)


def truncated() -> Fault:
    """The fault for a stream that did not come to its end."""
    return Fault(Kind.TRUNCATED, "the provider's answer ended too early", origin=Origin.UPSTREAM, retry=Retry.SAME)


def _read(body: bytes) -> _Error | None:
    if len(body) > LARGEST_ERROR:
        return None
    try:
        found = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    envelopes: list[_Envelope] = found if isinstance(found, list) else [found]
    return envelopes[0].error if envelopes else None


def _details(error: _Error | None) -> list[_Detail]:
    try:
        return msgspec.convert(error.details if error is not None else None, list[_Detail] | None) or []
    except (msgspec.ValidationError, RecursionError):
        return []


def _delay(details: list[_Detail]) -> float | None:
    """The seconds to wait that a `RetryInfo` names."""
    for detail in details:
        found = _SECONDS.fullmatch(detail.retry_delay) if isinstance(detail.retry_delay, str) else None
        if found:
            return float(found[1])
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
