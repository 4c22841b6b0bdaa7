"""Errors in the OpenAI envelope: writing ours, reading a provider's. It must not let a provider's secret talk pass.

Envelope: {"error": {"message": str, "type": str, "param": str|null, "code": str|null}}; `code` is a string, the
status for our own faults but for the two that clients look for by name.
"""

from __future__ import annotations

import msgspec

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.wire.framing.sse import sse_event


class _Error(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: str | None


class _Envelope(msgspec.Struct):
    error: _Error


class _Inner(msgspec.Struct):
    code: object = None


class _UpstreamError(msgspec.Struct):
    message: object = None
    type: object = None
    code: object = None
    innererror: _Inner | None = None  # Azure


class _UpstreamEnvelope(_UpstreamError):
    error: _UpstreamError | str | None = None
    detail: object = None  # servers built on FastAPI


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_UpstreamEnvelope).decode

# How servers of this dialect say that a request is longer than the model's context: by a code or a type, or in words.
# Whose they are stands with the cases of the tests.
_CONTEXT_CODES = frozenset(
    {
        "context_length_exceeded",
        "context_window_exceeded",
        "exceed_context_size_error",
        "string_above_max_length",
    }
)
_CONTEXT_WORDS = (
    "context length",
    "context window",
    "context size",
    "context limit",
    "prompt is too long",
    "input is too long",
    "too many tokens",
    "maximum prompt length",
    "maximum model length",
    "reduce the length of the messages",
    "`max_new_tokens` must be <=",
    "input token count",
)
# And that their provider's policy forbids its content.
_CONTENT_CODES = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "data_inspection_failed",
        "moderation_blocked",
        "responsibleaipolicyviolation",
    }
)
_CONTENT_WORDS = (
    "content management policy",
    "content exists risk",
    "content violates usage guidelines",
    "violating our usage policy",
    "rejected as a result of our safety system",
    "input was flagged",
)
# The codes of the faults that clients act upon; the status for all others.
_NAMED = {Kind.CONTEXT_WINDOW: "context_length_exceeded", Kind.CONTENT_POLICY: "content_policy_violation"}
# Statuses that are about something else whatever the words: the credential, money, a wrong address, the pace.
_ELSEWHERE = frozenset({401, 402, 404, 408, 429})
# Statuses whose body concerns the caller's own request and is relayed as it came.
_CALLERS_FAULT = frozenset({400, 404, 409, 413, 415, 422, 451})
LARGEST_ERROR = 64 * 1024


def encode_fault(fault: Fault) -> bytes:
    """The error body for a fault."""
    if fault.answer is not None:
        return fault.answer
    return _encode(_Envelope(_Error(fault.public, fault.type, fault.param, _NAMED.get(fault.kind, str(fault.status)))))


def encode_fault_event(fault: Fault) -> bytes:
    """The error as a server-sent event of a stream that has begun. No `[DONE]` follows it."""
    return sse_event(encode_fault(fault))


def decode_fault(status: int, body: bytes, retry_after: float | None = None) -> Fault:
    """What a provider's error answer means. Total: any status and bytes give a Fault.

    Client errors carry the provider's body in `answer`, to be relayed unchanged; everything that concerns the
    gateway's own credentials, the provider's health or an unreadable body does not.
    """
    error, enveloped = _read(body)
    answer = body if enveloped and status in _CALLERS_FAULT else None
    if error is not None and status >= 400 and status not in _ELSEWHERE:
        names, words = _names(error), str(error.message or "").lower()
        asked = status if status in (400, 413, 422) else 400
        if not _CONTENT_CODES.isdisjoint(names) or any(phrase in words for phrase in _CONTENT_WORDS):
            return _fault(Kind.CONTENT_POLICY, "the provider's content policy refused the request", 400, answer=answer)
        if status != 403 and (not _CONTEXT_CODES.isdisjoint(names) or any(said in words for said in _CONTEXT_WORDS)):
            public = "the request is longer than the model's context"
            return _fault(Kind.CONTEXT_WINDOW, public, asked, answer=answer)
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


def _read(body: bytes) -> tuple[_UpstreamError | None, bool]:
    """The error that a body tells, and whether it stands in the envelope of this dialect."""
    if len(body) > LARGEST_ERROR:
        return None, False
    listed = body.startswith(b"[")  # Gemini's compatible endpoint puts the envelope into a list
    if listed:
        body = body.strip()[1:-1]
    try:
        found = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, False
    if isinstance(found.error, str):
        return _UpstreamError(message=found.error, code=found.code), True
    if found.error is not None:
        return found.error, not listed
    bare = _UpstreamError(found.message or found.detail, found.type, found.code, found.innererror)
    return (bare if bare.message or bare.code else None), False


def _names(error: _UpstreamError) -> set[str]:
    """The codes and types of an error, in lower case."""
    inner = error.innererror.code if error.innererror is not None else None
    return {name.lower() for name in (error.code, error.type, inner) if isinstance(name, str)}


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
