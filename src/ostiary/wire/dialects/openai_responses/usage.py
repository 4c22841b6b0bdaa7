"""What an answer states of its use. It must not keep content.

Convention of this dialect: `input_tokens` includes cached tokens and those written to the cache, `output_tokens`
includes reasoning (official Python SDK 3.54, `types.responses.ResponseUsage`).
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import msgspec

from ostiary.core.fault import Fault
from ostiary.core.usage import Usage
from ostiary.wire.conversation.members import NULL, UNREADABLE, Members
from ostiary.wire.dialects.openai_responses.faults import bad_answer, decode_failure
from ostiary.wire.dialects.openai_responses.parts import RAW

_MOST = 10**12  # beyond this a count is no count, and would not fit where it is stored


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


_usage = msgspec.json.Decoder(_Usage).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def decode_usage(raw: msgspec.Raw) -> Usage | None:
    """The usage stated; None where none is, or none that makes sense."""
    if bytes(raw) == NULL:
        return None
    try:
        said = _usage(raw)
    except UNREADABLE:
        return None
    if said.input_tokens is None and said.output_tokens is None:
        return None
    ins, outs = said.input_tokens_details or _InputDetails(), said.output_tokens_details or _OutputDetails()
    counts = (
        said.input_tokens or 0,
        said.output_tokens or 0,
        ins.cached_tokens or 0,
        ins.cache_write_tokens or 0,
        outs.reasoning_tokens or 0,
    )
    return None if min(counts) < 0 or max(counts) > _MOST else Usage(*counts)


def encode_usage(usage: Usage) -> dict[str, Any]:
    """The `usage` object."""
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_creation},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }


def readable(data: bytes | msgspec.Raw, without: Set[str] = frozenset()) -> Members | None:
    """The members of an answer but for those named by `without`; None for what is no JSON object in UTF-8."""
    try:
        bytes(data).decode()
        return Members({name: value for name, value in _members(data).items() if name not in without})
    except UNREADABLE:
        return None


def fault_of(members: Members) -> Fault | None:
    """The failure an answer tells, in place of a response or as one; None for an answer that tells none."""
    error = members.take("error", RAW)
    return None if error is None else decode_failure(error)


def read_usage(body: bytes) -> Usage | None:
    """The usage an answer states; None where it states none that makes sense.

    Raises:
        Fault: BAD_ANSWER for a body that is not a JSON object; the provider's error where the body is no more than one.
    """
    members = readable(body)
    if members is None:
        raise bad_answer()
    raw = members.take("usage", RAW)
    usage = decode_usage(raw) if raw is not None else None
    if usage is None and "output" not in members and (fault := fault_of(members)) is not None:
        raise fault
    return usage
