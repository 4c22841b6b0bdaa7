"""What an answer states of its use. It must not keep content.

Source: official Python SDK 7.3, `Usage`: `tokens` counts what the model read and wrote, `cached_tokens` those of the
prompt that were cached, `billed_units` what is charged for. Numbers may be floats. Where only `billed_units` are told,
they count; they stay in the rest in any case.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.members import Members
from ostiary.wire.dialects.cohere_chat.parts import RAW

_MOST = 10**12  # beyond this a count is no count, and would not fit where it is stored


class _Counts(msgspec.Struct):
    input_tokens: int | float | None = None
    output_tokens: int | float | None = None

    @property
    def told(self) -> bool:
        return self.input_tokens is not None or self.output_tokens is not None


_counts = msgspec.json.Decoder(_Counts)
_number = msgspec.json.Decoder(int | float)


def take_usage(owner: Members) -> Usage | None:
    """The usage stated; None where none is, or none that makes sense. What is left of it stays with its owner."""
    usage = owner.inside("usage")
    tokens, billed = usage.take("tokens", _counts), usage.take("billed_units", RAW)
    if billed is not None:
        usage.put_back("billed_units", billed)
    cached = usage.take("cached_tokens", _number) or 0
    if tokens is None or not tokens.told:
        tokens = _billed(billed)
    if tokens is None or not tokens.told:
        return None
    counts = (tokens.input_tokens or 0, tokens.output_tokens or 0, cached)
    if not all(0 <= count <= _MOST for count in counts):
        return None
    return Usage(round(counts[0]), round(counts[1]), round(counts[2]))


def encode_usage(usage: Usage) -> dict[str, Any]:
    """The `usage` object."""
    document: dict[str, Any] = {"tokens": {"input_tokens": usage.input, "output_tokens": usage.output}}
    if usage.cache_read:
        document["cached_tokens"] = usage.cache_read
    return document


def _billed(raw: msgspec.Raw | None) -> _Counts | None:
    try:
        return _counts.decode(raw) if raw is not None else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
