"""What the gateway reads of an answer: usage and the error a provider may hide in a 200. It must not keep content.

Usage convention of this dialect: `prompt_tokens` includes cached and audio tokens, `completion_tokens` includes
reasoning and audio tokens (OpenAI API reference, CompletionUsage). Images use `input_tokens`/`output_tokens`; some
compatible servers report cached tokens beside the details (`prompt_cache_hit_tokens`).
"""

from __future__ import annotations

import msgspec

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.core.usage import Usage
from ostiary.wire.dialects.openai_chat.faults import decode_fault

_MOST = 10**12  # beyond this a count is no count, and would not fit where it is stored
ABSENT = msgspec.Raw(b"null")  # stands for a member that is not there; compared by identity


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None
    audio_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_creation_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class WireUsage(msgspec.Struct):
    """The `usage` object in its several spellings."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    total_tokens: int | None = None
    seconds: float | None = None

    def to_usage(self) -> Usage | None:
        """The usage in the house's convention; None where no number is stated, or one that cannot be meant."""
        stated = self.prompt_tokens if self.prompt_tokens is not None else self.input_tokens
        made = self.completion_tokens if self.completion_tokens is not None else self.output_tokens
        if stated is None and made is None and self.total_tokens is None and self.seconds is None:
            return None
        into = stated if stated is not None else (self.total_tokens or 0) - (made or 0)
        ins = self.prompt_tokens_details or self.input_tokens_details
        outs = self.completion_tokens_details or self.output_tokens_details
        cached = written = heard = thought = spoken = 0
        if ins is not None:
            cached, heard = ins.cached_tokens or 0, ins.audio_tokens or 0
            written = ins.cache_write_tokens or ins.cache_creation_tokens or 0
        if outs is not None:
            thought, spoken = outs.reasoning_tokens or 0, outs.audio_tokens or 0
        cached = cached or self.prompt_cache_hit_tokens or 0
        seconds = self.seconds or 0.0
        counts = (into, made or 0, cached, written, thought, heard, spoken)
        if min(*counts, seconds) < 0 or max(*counts, seconds) > _MOST:
            return None
        return Usage(*counts, milliseconds=round(seconds * 1000))


class _Reply(msgspec.Struct):
    usage: WireUsage | None = None
    error: msgspec.Raw = ABSENT
    choices: msgspec.Raw = ABSENT


_reply = msgspec.json.Decoder(_Reply).decode
_any = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def read_usage(body: bytes) -> Usage | None:
    """The usage an answer states; None where it states none that makes sense.

    Raises:
        Fault: BAD_ANSWER for a body that is not a JSON object; the provider's error where the body is one.
    """
    try:
        reply = _reply(body)
    except msgspec.ValidationError:
        _require_object(body)
        return None  # an answer whose usage is not of the expected types is still an answer
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise bad_answer() from None
    if reply.error is not ABSENT and reply.choices is ABSENT and bytes(reply.error) != b"null":
        raise hidden_error(body)
    return reply.usage.to_usage() if reply.usage is not None else None


def _require_object(body: bytes) -> None:
    try:
        _any(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise bad_answer() from None


def hidden_error(body: bytes) -> Fault:
    """The fault for an error object that came with status 200."""
    code = _code_of(body)
    return decode_fault(code if 400 <= code < 600 else 502, body)


def _code_of(body: bytes) -> int:
    class _Coded(msgspec.Struct):
        code: int | str | None = None
        status: int | str | None = None

    try:
        error = msgspec.json.decode(_any(body)["error"], type=_Coded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
        return 502
    for value in (error.code, error.status):
        if isinstance(value, int) or (isinstance(value, str) and len(value) == 3 and value.isdecimal()):
            return int(value)
    return 502


def bad_answer() -> Fault:
    """The fault for an answer that is no answer."""
    return Fault(Kind.BAD_ANSWER, "the provider's answer is not readable", origin=Origin.UPSTREAM, retry=Retry.NEXT)
