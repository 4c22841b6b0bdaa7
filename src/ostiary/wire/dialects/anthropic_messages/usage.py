"""What an answer of this dialect says of its use, and the error it may hide. It must not keep content.

Convention of this dialect: `input_tokens` excludes what was read from and written to the cache, `output_tokens`
includes reasoning (official Python SDK 2.12, `types.Usage`); the house counts both in. The counts of a stream are
totals: what comes later stands, what is missing keeps its value (`types.MessageDeltaUsage`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.core.usage import Usage
from ostiary.wire.conversation.members import UNREADABLE, Members
from ostiary.wire.dialects.anthropic_messages.faults import hidden_error
from ostiary.wire.dialects.anthropic_messages.parts import INTEGER, RAW, STRING

_MOST = 10**12  # beyond this a count is no count, and would not fit where it is stored
_READ, _WRITTEN, _THOUGHT = "cache_read_input_tokens", "cache_creation_input_tokens", "thinking_tokens"
_COUNTS = ("input_tokens", "output_tokens", _READ, _WRITTEN)
_BY_TTL = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
_TIERS = {"standard": "default", "priority": "priority"}
_TIER_WORDS = {tier: word for word, tier in _TIERS.items()} | {"batch": "batch"}


class _Answer(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")


_answer = msgspec.json.Decoder(_Answer).decode


class Counts:
    """The counts told so far."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def take(self, usage: Members) -> Usage | None:
        """The usage with the counts of one more `usage` object; None where none is told, or none that can be meant."""
        found = {name: usage.take(name, INTEGER) for name in _COUNTS}
        found[_THOUGHT] = usage.inside("output_tokens_details").take(_THOUGHT, INTEGER)
        if found[_WRITTEN] is None:
            found[_WRITTEN] = _written(usage)
        self._told |= {name: count for name, count in found.items() if count is not None}
        return self._usage()

    def _usage(self) -> Usage | None:
        counts = self._told
        if not counts or min(counts.values()) < 0 or max(counts.values()) > _MOST:
            return None
        read, written = counts.get(_READ, 0), counts.get(_WRITTEN, 0)
        return Usage(
            input=counts.get("input_tokens", 0) + read + written,
            output=counts.get("output_tokens", 0),
            cache_read=read,
            cache_creation=written,
            reasoning=counts.get(_THOUGHT, 0),
        )


def _written(usage: Members) -> int | None:
    """What was written to the cache, by how long it is kept; the division itself is left."""
    raw = usage.take("cache_creation", RAW)
    if raw is None:
        return None
    usage.put_back("cache_creation", raw)
    inner = Members.of(raw)
    counts = [inner.take(name, INTEGER) for name in _BY_TTL] if inner is not None else []
    told = [count for count in counts if count is not None]
    return sum(told) if told else None


def take_tier(usage: Members) -> str:
    """The tier that served the request; "" where it is not told."""
    word = usage.take("service_tier", STRING) or ""
    return _TIERS.get(word, word)


def encode_usage(usage: Usage | None) -> dict[str, Any]:
    """The `usage` object; zeros where nothing is known, because it has to be there."""
    used = usage or Usage()
    document: dict[str, Any] = {
        "input_tokens": max(used.input - used.cache_read - used.cache_creation, 0),
        _WRITTEN: used.cache_creation,
        _READ: used.cache_read,
        "output_tokens": used.output,
    }
    if used.reasoning:
        document["output_tokens_details"] = {_THOUGHT: used.reasoning}
    return document


def tier_word(tier: str) -> str | None:
    """This dialect's word for a tier that served; None where it has none."""
    return _TIER_WORDS.get(tier)


def read_usage(body: bytes) -> Usage | None:
    """The usage an answer states; None where it states none that makes sense.

    Raises:
        Fault: BAD_ANSWER for a body that is not a JSON object; the provider's error where the body is one.
    """
    try:
        answer = _answer(body)
    except UNREADABLE:
        raise bad_answer() from None
    if bytes(answer.error) != b"null" and bytes(answer.usage) == b"null":
        raise hidden_error(body)
    usage = Members.of(answer.usage)
    return Counts().take(usage) if usage is not None else None


def bad_answer() -> Fault:
    """The fault for an answer that is no answer."""
    return Fault(Kind.BAD_ANSWER, "the provider's answer is not readable", origin=Origin.UPSTREAM, retry=Retry.NEXT)


def truncated() -> Fault:
    """The fault for a stream that did not come to its end."""
    return Fault(Kind.TRUNCATED, "the provider's answer ended too early", origin=Origin.UPSTREAM, retry=Retry.SAME)
