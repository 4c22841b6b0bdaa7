"""Errors in Ollama's words: writing ours, reading a provider's. It must not let a provider's secret talk pass.

Source: Ollama's API documentation, errors: `{"error": str}`, in a stream as a line of its own. A prompt that is too
long is told with 400 or, by the runner behind it, with 500.
"""

from __future__ import annotations

import msgspec

from ostiary.core.fault import Fault, Kind, Origin, Retry

LARGEST_ERROR = 64 * 1024


class _Error(msgspec.Struct):
    error: str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Error).decode

_CONTEXT_WORDS = (
    "exceeds the context length",
    "exceeds context length",
    "exceeds maximum context length",
    "exceeds the available context size",
    "maximum context length",
    "context window",
    "prompt is too long",
)
_CONTENT_WORDS = ("content policy", "content filter", "content_filter", "content_policy")
# What the messages begin with by which clients know these faults: words are all that is written.
_BEGINNINGS = {
    Kind.CONTEXT_WINDOW: "the input length exceeds the context length",
    Kind.CONTENT_POLICY: "content policy",
}
# Statuses whose body concerns the caller's own request and is relayed as it came.
_CALLERS_FAULT = frozenset({400, 404, 409, 413, 415, 422, 451})


def encode_fault(fault: Fault) -> bytes:
    """The error body for a fault."""
    if fault.answer is not None:
        return fault.answer
    return _encode({"error": _words(fault)})


def _words(fault: Fault) -> str:
    begin = _BEGINNINGS.get(fault.kind)
    return f"{begin}: {fault.public}" if begin else fault.public


def encode_fault_event(fault: Fault) -> bytes:
    """The error as the last line of a stream that has begun."""
    return _encode({"error": _words(fault)}) + b"\n"


def decode_fault(status: int, body: bytes, retry_after: float | None = None) -> Fault:
    """What a provider's error answer means. Total: any status and bytes give a Fault.

    Client errors carry the provider's body in `answer`, to be relayed unchanged; everything that concerns the
    gateway's own credentials, the provider's health or an unreadable body does not.
    """
    message = _message(body)
    words = (message or "").lower()
    answer = body if message is not None and status in _CALLERS_FAULT else None
    if status in (400, 413, 422, 500) and _says(words, _CONTEXT_WORDS):
        told = status if status < 500 else 400
        return _fault(Kind.CONTEXT_WINDOW, "the request is longer than the model's context", told, answer=answer)
    if status in (400, 403, 422) and _says(words, _CONTENT_WORDS):
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


def hidden_error(message: str) -> Fault:
    """The fault for an error message that came with status 200, or within a stream."""
    words = message.lower()
    if _says(words, _CONTEXT_WORDS):
        return _fault(Kind.CONTEXT_WINDOW, "the request is longer than the model's context", 400)
    if _says(words, _CONTENT_WORDS):
        return _fault(Kind.CONTENT_POLICY, "the provider's content policy refused the request", 400)
    return _fault(Kind.UPSTREAM_ERROR, "the provider failed", 502, Retry.SAME)


def bad_answer() -> Fault:
    """The fault for an answer that is no answer."""
    return _fault(Kind.BAD_ANSWER, "the provider's answer is not readable", 502, Retry.NEXT)


def truncated() -> Fault:
    """The fault for an answer that did not come to its end."""
    return _fault(Kind.TRUNCATED, "the provider's answer ended too early", 502, Retry.SAME)


def _says(words: str, phrases: tuple[str, ...]) -> bool:
    return any(phrase in words for phrase in phrases)


def _message(body: bytes) -> str | None:
    if len(body) > LARGEST_ERROR:
        return None
    try:
        return _decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
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
