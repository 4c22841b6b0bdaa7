"""Answers from and to the pivot. It must not make an answer of what is none.

Source: official Python SDK 2.12, `types.Message` and `types.StopReason`. An answer is one choice. Nulls, empty lists
and empty objects say nothing in an answer and are not kept.

A proof that another dialect's provider gave travels to the client where this dialect keeps proofs: as the signature of
reasoning, or, where the part has no place for one, in a block of its own before it (see `conversation.seals`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.wire.conversation.members import Members, with_rest
from ostiary.wire.conversation.parts import Citation, Part, Reasoning, Refusal, Seal, Text, ToolCall, UnknownPart
from ostiary.wire.conversation.reply import Choice, Finish, Reason, Reply
from ostiary.wire.conversation.seals import carry, unproven
from ostiary.wire.conversation.unknown import Encoded, Loss, LossKind, Rest, inexpressible, losses_of
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.anthropic_messages.faults import hidden_error
from ostiary.wire.dialects.anthropic_messages.messages import encode_thinking
from ostiary.wire.dialects.anthropic_messages.parts import (
    CONTENT,
    DIALECT,
    RAW,
    RAWS,
    STRING,
    WEB_RESULT,
    decode_blocks,
    encode_block,
    encode_citation,
    telling,
)
from ostiary.wire.dialects.anthropic_messages.usage import Counts, bad_answer, encode_usage, take_tier, tier_word

ID_PREFIX = "msg_"
EVENT = "event"  # where whole events that only this dialect knows are left
_REASONS = {
    "end_turn": Reason.STOP,
    "max_tokens": Reason.LENGTH,
    "tool_use": Reason.TOOL_CALLS,
    "refusal": Reason.CONTENT_FILTER,
}
_WORDS = {reason: word for word, reason in _REASONS.items()}
_STOPPED = "stop_sequence"
_NEARLY = {_STOPPED: Reason.STOP, "model_context_window_exceeded": Reason.LENGTH}
_encode = msgspec.json.Encoder().encode


def decode_reply(body: bytes) -> Reply:
    """The reply an answer's body tells.

    Raises:
        Fault: BAD_ANSWER for what is no message; the provider's error where the body is one.
    """
    members = readable(body)
    if members is None:
        raise bad_answer()
    raws = members.take(CONTENT, RAWS)
    if raws is None or is_error(members):
        raise hidden_error(body) if is_error(members) else bad_answer()
    usage = members.inside("usage")
    counted, tier = Counts().take(usage), take_tier(usage)
    named = members.take("id", STRING) or "", members.take("model", STRING) or ""
    parts = tuple(plainer(part) for part in decode_blocks(raws))
    choice = Choice(0, parts, take_finish(members))
    rest = meaningful(members)
    return Reply(choices=(choice,), usage=counted, id=named[0], model=named[1], rest=rest, tier=tier)


def readable(data: bytes) -> Members | None:
    """The members of an answer or of an event; None for what is no JSON object in UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return None
    return Members.of(data)


def is_error(members: Members) -> bool:
    """Whether there is an error object."""
    error = members.take("error", RAW)
    if error is not None:
        members.put_back("error", error)
    return error is not None


def plainer(part: Part) -> Part:
    """A part of an answer without what says nothing."""
    rest = telling(part.rest) if not isinstance(part, UnknownPart) else ()
    return part if isinstance(part, UnknownPart) or rest == part.rest else msgspec.structs.replace(part, rest=rest)


def meaningful(members: Members) -> Rest:
    """What is left of an answer without what every answer has, and without what says nothing."""
    for name in ("type", "role", CONTENT, "stop_reason", _STOPPED, "error"):
        members.take(name, RAW)
    return telling(members.rest(DIALECT))


def take_finish(members: Members) -> Finish:
    """Why the model stopped, of an answer or of the event that says so."""
    word = members.take("stop_reason", STRING)
    if word is None:
        return Finish(Reason.OTHER)
    if word in _REASONS:
        return Finish(_REASONS[word])
    stop = members.take(_STOPPED, STRING) if word == _STOPPED else None
    if stop is not None:
        return Finish(Reason.STOP, stop=stop)
    return Finish(_NEARLY.get(word, Reason.OTHER), word, DIALECT)


def encode_finish(finish: Finish) -> dict[str, Any]:
    """The members that say why the model stopped; an unknown end is the end of a turn."""
    if finish.word and finish.said_by == DIALECT:
        word = finish.word
    elif finish.stop is not None:
        word = _STOPPED
    else:
        word = _WORDS.get(finish.reason, "end_turn")
    return {"stop_reason": word, _STOPPED: finish.stop if word == _STOPPED else None}


def head_of(answering: Answering) -> dict[str, Any]:
    """The members that begin an answer."""
    return {"id": ID_PREFIX + answering.id, "type": "message", "role": "assistant", "model": answering.model}


def encode_reply(reply: Reply, answering: Answering) -> Encoded:
    """The body of an answer, under the names of `answering`, and what it does not say.

    Raises:
        Fault: INVALID_REQUEST for content this dialect cannot say.
    """
    losses = losses_of(reply.rest, DIALECT, "")
    for choice in reply.choices[1:]:
        raise inexpressible(f"choices.{choice.index}")
    said = reply.choices[0] if reply.choices else Choice(0, ())
    where = f"choices.{said.index}"
    losses += losses_of(said.rest, DIALECT, where)
    if said.scores:
        losses.append(Loss(LossKind.UNKNOWN, f"{where}.scores"))
    blocks = [
        block for index, part in enumerate(said.parts) for block in encode_said(part, f"{where}.parts.{index}", losses)
    ]
    usage = encode_usage(reply.usage)
    put_tier(usage, reply.tier, losses)
    document = {**head_of(answering), CONTENT: blocks, **encode_finish(said.finish), "usage": usage}
    rest = tuple(extra for extra in (*reply.rest, *said.rest) if extra.path[0] != EVENT)
    return Encoded(_encode(with_rest(document, rest, DIALECT)), tuple(losses))


def put_tier(usage: dict[str, Any], tier: str, losses: list[Loss]) -> None:
    """Say which tier served a request, in the object that says what it used."""
    word = tier_word(tier)
    if word is not None:
        usage["service_tier"] = word
    elif tier:
        losses.append(Loss(LossKind.MARK, "tier"))


def encode_said(part: Part, where: str, losses: list[Loss]) -> list[Any]:
    """The blocks for one part of an answer; none where it says nothing.

    Raises:
        Fault: INVALID_REQUEST for content this dialect cannot say in an answer.
    """
    match part:
        case Reasoning():
            losses += losses_of(part.rest, DIALECT, where)
            if part.hidden and part.seal is None:
                return []
            return [encode_thinking(part, written_proof(part.seal))]
        case Text() | ToolCall() | Refusal() | UnknownPart():
            block = encode_block(part, where, losses)
        case _:
            raise inexpressible(where)
    if isinstance(part, Text) and part.citations:
        told = encode_citations(part.citations, where, losses)
        if told:
            block["citations"] = told
    seal = getattr(part, "seal", None)
    return [block] if seal is None else [ahead(seal), block]


def written_proof(seal: Seal | None) -> str:
    """A proof as a client of this dialect keeps it. Some lose thoughts that have none, so there is always one."""
    if seal is None:
        return unproven()
    return seal.value if seal.issuer == DIALECT else carry(seal)


def ahead(seal: Seal) -> dict[str, Any]:
    """The block that carries the proof of the part after it."""
    return {"type": "redacted_thinking", "data": carry(seal, ahead=True)}


def encode_citations(citations: tuple[Citation, ...], where: str, losses: list[Loss]) -> list[dict[str, Any]]:
    """Where words come from. Of another dialect's citations, those of pages of the web can be said.

    They get an empty `encrypted_index`, which is required of the member and means nothing to any provider.
    """
    told = []
    for citation in citations:
        document = encode_citation(citation)
        if document is not None:
            losses += losses_of(citation.rest, DIALECT, where)
        elif citation.url is not None:
            if citation.start is not None or citation.rest:
                losses.append(Loss(LossKind.MARK, f"{where}.citations"))
            document = {
                "type": WEB_RESULT,
                "cited_text": citation.quote or "",
                "encrypted_index": "",
                "title": citation.title,
                "url": citation.url,
            }
        else:
            losses.append(Loss(LossKind.MARK, f"{where}.citations"))
            continue
        told.append(document)
    return told
