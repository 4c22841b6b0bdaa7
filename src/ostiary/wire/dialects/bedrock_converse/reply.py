"""Answers from and to the pivot. It must not make an answer of what is none.

Source: botocore 1.44, `bedrock-runtime` 2023-09-30: ConverseResponse, TokenUsage; Amazon Bedrock user guide, prompt
caching: `inputTokens` counts neither what was read from the cache nor what was written to it, `totalTokens` counts all.
An answer has one choice, and neither id nor model. A latency of 0 ms stands for one nobody measured, and a usage of
nothing at all for one nobody stated: both are demanded. Which stop sequence was met stands where Anthropic's models
tell it, in `additionalModelResponseFields` (Amazon Bedrock API reference, Converse).
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.core.fault import Fault
from ostiary.core.usage import Usage
from ostiary.wire.conversation.members import EMPTY_LIST, NULL, Members, with_rest
from ostiary.wire.conversation.parts import Part, Reasoning, Text, ToolCall, ToolResult
from ostiary.wire.conversation.reply import Choice, Finish, Reason, Reply
from ostiary.wire.conversation.seals import carry
from ostiary.wire.conversation.unknown import Encoded, Loss, LossKind, Rest, inexpressible, losses_of
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.bedrock_converse.faults import bad_answer, hidden_error
from ostiary.wire.dialects.bedrock_converse.media import DIALECT, STRING, Names
from ostiary.wire.dialects.bedrock_converse.messages import redacted, write_reasoning
from ostiary.wire.dialects.bedrock_converse.parts import (
    CONTENT,
    INTEGER,
    RAW,
    RAWS,
    cache_point,
    call_input,
    decode_blocks,
    encode_block,
    encode_call,
)

_MOST = 10**12  # beyond this a count is no count, and would not fit where it is stored
_SAYS_NOTHING = frozenset({NULL, bytes(EMPTY_LIST), b"{}"})
_BINDING = frozenset({"output"})
_REASONS = {
    "end_turn": Reason.STOP,
    "tool_use": Reason.TOOL_CALLS,
    "max_tokens": Reason.LENGTH,
    "content_filtered": Reason.CONTENT_FILTER,
}
_WORDS = {reason: word for word, reason in _REASONS.items()}
# Words that say more than the pivot's.
_MORE = {
    "stop_sequence": Reason.STOP,
    "guardrail_intervened": Reason.CONTENT_FILTER,
    "model_context_window_exceeded": Reason.LENGTH,
}
FIELDS = "additionalModelResponseFields"
_STOP = "stop_sequence"  # the word, and the member that says which
_encode = msgspec.json.Encoder().encode


def decode_reply(body: bytes) -> Reply:
    """The reply an answer's body tells.

    Raises:
        Fault: BAD_ANSWER for what is no answer; the provider's error where the body is one.
    """
    members = readable(body)
    if members is None:
        raise bad_answer()
    message = members.inside("output").inside("message")
    raws = message.take(CONTENT, RAWS)
    if raws is None:
        raise hidden_error(body) or bad_answer()
    message.take("role", STRING)
    finish = finish_of(members)
    usage = take_usage(members)
    tier = members.inside("serviceTier").take("type", STRING) or ""
    choice = Choice(0, tuple(decode_blocks(raws, results=False)), finish)
    return Reply(choices=(choice,), usage=usage, rest=meaningful(members), tier=tier)


def usage_of(body: bytes) -> Usage | None:
    """The usage an answer states; None where it states none that makes sense.

    Raises:
        Fault: as `decode_reply`.
    """
    members = readable(body)
    if members is None:
        raise bad_answer()
    if "output" not in members and (fault := hidden_error(body)) is not None:
        raise fault
    return take_usage(members)


def readable(data: bytes) -> Members | None:
    """The members of an answer or of an event; None for what is no JSON object in UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return None
    return Members.of(data)


def take_usage(members: Members) -> Usage | None:
    """The usage stated, in the house's convention; None where none is, or none that makes sense."""
    if "usage" not in members:
        return None
    inner = members.inside("usage")
    names = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheWriteInputTokens", "totalTokens")
    counts = [inner.take(name, INTEGER) for name in names]
    stated = [count for count in counts if count is not None]
    if (counts[0] is None and counts[1] is None) or min(stated) < 0 or not 0 < max(stated) <= _MOST:
        return None
    into, made, read, written, _ = (count or 0 for count in counts)
    return Usage(into + read + written, made, read, written)


def encode_usage(stated: Usage | None) -> dict[str, Any]:
    """The `usage` object, which has to be there; of zeros where nothing was stated."""
    usage = stated or Usage()
    plain = max(usage.input - usage.cache_read - usage.cache_creation, 0)
    document = {"inputTokens": plain, "outputTokens": usage.output, "totalTokens": usage.total}
    if usage.cache_read or usage.cache_creation:
        document["cacheReadInputTokens"] = usage.cache_read
        document["cacheWriteInputTokens"] = usage.cache_creation
    return document


def meaningful(members: Members, *known: str) -> Rest:
    """What is left of an answer without the members named, and without what says nothing."""
    for name in known:
        members.take(name, RAW)
    metrics = members.inside("metrics")
    latency = metrics.take("latencyMs", RAW)
    if latency is not None and bytes(latency) != b"0":
        metrics.put_back("latencyMs", latency)
    return tuple(extra for extra in members.rest(DIALECT, _BINDING) if bytes(extra.value) not in _SAYS_NOTHING)


def finish_of(members: Members) -> Finish:
    """The pivot's reason for the stop reason of an answer or its end; OTHER where there is none."""
    word = members.take("stopReason", STRING)
    if word is None:
        return Finish(Reason.OTHER)
    if word in _REASONS:
        return Finish(_REASONS[word])
    stop = _stop_met(members) if word == _STOP else None
    return Finish(_MORE.get(word, Reason.OTHER), word, DIALECT, stop)


def _stop_met(members: Members) -> str | None:
    raw = members.take(FIELDS, RAW)
    if raw is None:
        return None
    members.put_back(FIELDS, raw)
    said = Members.of(raw)
    told = said is not None and said.take(_STOP, STRING) is not None
    return members.inside(FIELDS).take(_STOP, STRING) if told else None


def ending(finish: Finish) -> dict[str, Any]:
    """The members that tell why a model stopped."""
    document: dict[str, Any] = {"stopReason": word_of(finish)}
    if finish.stop is not None:
        document[FIELDS] = {_STOP: finish.stop}
    return document


def word_of(finish: Finish) -> str:
    """The stop reason for the pivot's reason; an unknown end is the end of a turn."""
    if finish.word and finish.said_by == DIALECT:
        return finish.word
    if finish.reason is Reason.STOP and finish.stop is not None:
        return _STOP
    return _WORDS.get(finish.reason, "end_turn")


def encode_reply(reply: Reply, answering: Answering) -> Encoded:  # noqa: ARG001  # an answer here has no names
    """The body of an answer, and what it does not say.

    Raises:
        Fault: INVALID_REQUEST for content this dialect cannot say, and for several choices.
    """
    if len(reply.choices) > 1:
        raise inexpressible("choices")
    losses = losses_of(reply.rest, DIALECT, "")
    blocks: list[Any] = []
    finish = Finish(Reason.OTHER)
    for choice in reply.choices:
        losses += losses_of(choice.rest, DIALECT, "choices.0")
        losses += [Loss(LossKind.KNOB, "choices.0.scores")] if choice.scores else []
        names, finish = Names(), choice.finish
        for index, part in enumerate(choice.parts):
            blocks += reply_blocks(part, names, f"choices.0.parts.{index}", losses)
    document: dict[str, Any] = {
        "output": {"message": {"role": "assistant", CONTENT: blocks}},
        **ending(finish),
        "usage": encode_usage(reply.usage),
    }
    if reply.tier:
        document["serviceTier"] = {"type": reply.tier}
    with_rest(document, reply.rest, DIALECT)
    document.setdefault("metrics", {}).setdefault("latencyMs", 0)
    return Encoded(_encode(document), tuple(losses))


def reply_blocks(part: Part, names: Names, where: str, losses: list[Loss]) -> list[Any]:
    """The blocks that tell a part to a client: itself, and before it a proof it has no place for.

    Raises:
        Fault: INVALID_REQUEST for content this dialect cannot say.
    """
    match part:
        case Reasoning(text):
            losses += losses_of(part.rest, DIALECT, where)
            return [write_reasoning(text, proof_of(part), part.rest, hidden=part.hidden)]
        case Text("", citations=()) if part.seal is None:
            return []  # this dialect has no empty text
        case ToolResult():
            raise inexpressible(where)
        case ToolCall():
            block = encode_call(part, _given(part, where, losses), where, losses)
        case _:
            block = encode_block(part, names, where, losses)
    seal, cache = getattr(part, "seal", None), getattr(part, "cache", None)
    proof = [] if seal is None else [write_reasoning("", redacted(seal, ahead=True), (), hidden=True)]
    return [*proof, block, *([] if cache is None else [cache_point(cache, where, losses)])]


def proof_of(part: Reasoning) -> str | None:
    """The signature or the redacted content a client keeps for a part."""
    if part.seal is None:
        return None
    if part.hidden:
        return redacted(part.seal)
    return part.seal.value if part.seal.issuer == DIALECT else carry(part.seal)


def _given(call: ToolCall, where: str, losses: list[Loss]) -> Any:
    """The input of a call: an object, or where the model did not write one its words."""
    if call.free:
        raise inexpressible(where)
    try:
        return call_input(call, where)
    except Fault:
        losses.append(Loss(LossKind.SHAPE, f"{where}.arguments"))
        return call.arguments
