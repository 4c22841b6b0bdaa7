"""Chat answers from and to the pivot. It must not make an answer of what is none.

Source: OpenAI API reference, the chat completion object (official Python SDK 3.54, `ChatCompletion`); reasoning as most
compatible servers write it, `reasoning_content` or `reasoning`; pictures as OpenRouter does, in `images`. A reply may
have several choices; their order is that of their indices. Nulls and empty lists say nothing in an answer and are not
kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.core.usage import Usage
from ostiary.wire.conversation.members import EMPTY_LIST, NULL, Members, with_rest
from ostiary.wire.conversation.parts import Citation, Image, Part, Reasoning, Refusal, Text, ToolCall, UnknownPart
from ostiary.wire.conversation.reply import Choice, Finish, Reason, Reply
from ostiary.wire.conversation.unknown import Encoded, Loss, LossKind, Rest, inexpressible, losses_of
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.openai_chat.citations import ANNOTATIONS, encode_citations, placed, take_citations
from ostiary.wire.dialects.openai_chat.parts import (
    CONTENT,
    IMAGES,
    TOOL_CALLS,
    decode_call,
    decode_part,
    decode_picture,
    encode_call,
    encode_part,
    is_call,
    is_plain,
)
from ostiary.wire.dialects.openai_chat.proofs import (
    extra_content,
    put_thoughts,
    take_text_seal,
    take_thoughts,
)
from ostiary.wire.dialects.openai_chat.scores import encode_scores, take_scores
from ostiary.wire.dialects.openai_chat.usage import WireUsage, bad_answer, hidden_error
from ostiary.wire.dialects.openai_chat.values import DIALECT, INTEGER, RAW, RAWS, STRING

# The kinds of parts in the order this dialect says them, and the member of those that are one text.
REASONING, TEXT, OTHER, PICTURE, REFUSAL, CALL = range(6)
MEMBERS = {REASONING: "reasoning_content", TEXT: CONTENT, REFUSAL: "refusal"}
ID_PREFIX = "chatcmpl-"
# Members of an answer that are content; what else is unknown is a remark on it.
_BINDING = frozenset({"audio", "content", "function_call", "images", "refusal", "tool_calls"})
NAMES = ("id", "model", "service_tier")
_REASONS = {reason.value: reason for reason in Reason if reason is not Reason.OTHER}
_SAYS_NOTHING = frozenset({NULL, bytes(EMPTY_LIST), b"{}"})
_usage = msgspec.json.Decoder(WireUsage)
_encode = msgspec.json.Encoder().encode


def decode_reply(body: bytes) -> Reply:
    """The reply an answer's body tells.

    Raises:
        Fault: BAD_ANSWER for what is no chat completion; the provider's error where the body is one.
    """
    members = readable(body)
    if members is None:
        raise bad_answer()
    raws = members.take("choices", RAWS)
    if raws is None:
        raise hidden_error(body) if error_of(members) else bad_answer()
    choices = sorted((_choice(raw, place) for place, raw in enumerate(raws)), key=lambda choice: choice.index)
    usage = take_usage(members)
    name, model, tier = (members.take(member, STRING) or "" for member in NAMES)
    rest = meaningful(members, "created", "object", "error")
    return Reply(choices=tuple(choices), usage=usage, id=name, model=model, rest=rest, tier=tier)


def truncated() -> Fault:
    """The fault for a stream that did not come to its end."""
    return Fault(Kind.TRUNCATED, "the provider's answer ended too early", origin=Origin.UPSTREAM, retry=Retry.SAME)


def readable(data: bytes) -> Members | None:
    """The members of an answer or of a chunk; None for what is no JSON object in UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return None
    return Members.of(data)


def error_of(members: Members) -> bool:
    """Whether there is an error object."""
    error = members.take("error", RAW)
    if error is not None:
        members.put_back("error", error)
    return error is not None


def take_usage(members: Members) -> Usage | None:
    """The usage stated; None where none is, or none that makes sense."""
    usage = members.take("usage", _usage)
    members.take("usage", RAW)
    return usage.to_usage() if usage is not None else None


def meaningful(members: Members, *known: str) -> Rest:
    """What is left of an answer without the members named, and without what says nothing."""
    for name in known:
        members.take(name, RAW)
    return tuple(extra for extra in members.rest(DIALECT, _BINDING) if bytes(extra.value) not in _SAYS_NOTHING)


def take_reasoning(message: Members) -> str:
    """What the model thought, in either spelling; "" for nothing."""
    told, also = message.take("reasoning_content", STRING), message.take("reasoning", STRING)
    return told or also or ""


def finish_of(word: str | None) -> Finish:
    """The pivot's reason for a finish reason; None is OTHER."""
    if word is None:
        return Finish(Reason.OTHER)
    if word in _REASONS:
        return Finish(_REASONS[word])
    return Finish(Reason.TOOL_CALLS if word == "function_call" else Reason.OTHER, word, DIALECT)


def word_of(finish: Finish) -> str:
    """The finish reason for the pivot's reason; an unknown end is a stop."""
    if finish.word and finish.said_by == DIALECT:
        return finish.word
    return "stop" if finish.reason is Reason.OTHER else finish.reason.value


def _choice(raw: msgspec.Raw, place: int) -> Choice:
    members = Members.of(raw)
    if members is None or "message" not in members:
        raise bad_answer()
    message = members.inside("message")
    message.take("role", STRING)
    index = members.take("index", INTEGER)
    finish = finish_of(members.take("finish_reason", STRING))
    parts: list[Part] = [*take_thoughts(message, take_reasoning(message) or None)]
    parts += _content(message)
    parts += [decode_picture(picture) for picture in message.take(IMAGES, RAWS) or ()]
    refusal = message.take("refusal", STRING)
    if refusal:
        parts.append(Refusal(refusal))
    parts += [decode_call(call) for call in message.take(TOOL_CALLS, RAWS) or ()]
    scores = take_scores(members)
    return Choice(place if index is None else index, tuple(parts), finish, meaningful(members), scores)


def _content(message: Members) -> list[Part]:
    """The words as one text, then what is no plain text."""
    text = message.take(CONTENT, STRING)
    others: list[Part] = []
    if text is None:
        text, others = content_pieces(message.take(CONTENT, RAWS) or [])
    citations, seal = take_citations(message), take_text_seal(message)
    return [Text(text, citations=citations, seal=seal), *others] if text or citations or seal else others


def content_pieces(raws: list[msgspec.Raw]) -> tuple[str, list[Part]]:
    """A list of content as its plain text and the rest; some servers answer so."""
    words, others = "", []
    for raw in raws:
        part = decode_part(raw)
        if isinstance(part, Text) and is_plain([part]):
            words += part.text
        else:
            others.append(UnknownPart(DIALECT, CONTENT, raw))
    return words, list(others)


def head_of(answering: Answering, kind: str) -> dict[str, Any]:
    """The members that begin an answer or a chunk; `kind` is its `object`."""
    return {
        "id": ID_PREFIX + answering.id,
        "object": kind,
        "created": answering.created,
        "model": answering.model,
    }


def encode_reply(reply: Reply, answering: Answering) -> Encoded:
    """The body of an answer, under the names and time of `answering`, and what it does not say.

    Raises:
        Fault: INVALID_REQUEST for content this dialect cannot say.
    """
    losses = losses_of(reply.rest, DIALECT, "")
    choices = [_encode_choice(choice, losses) for choice in reply.choices]
    document = {**head_of(answering, "chat.completion"), "choices": choices}
    if reply.usage is not None:
        document["usage"] = encode_usage(reply.usage)
    if reply.tier:
        document["service_tier"] = reply.tier
    return Encoded(_encode(with_rest(document, reply.rest, DIALECT)), tuple(losses))


def _encode_choice(choice: Choice, losses: list[Loss]) -> dict[str, Any]:
    where = f"choices.{choice.index}"
    losses += losses_of(choice.rest, DIALECT, where)
    losses += losses_at_end(choice.finish, where)
    if not in_order(choice.parts):
        losses.append(Loss(LossKind.SHAPE, where))
    message: dict[str, Any] = {"role": "assistant"}
    put_thoughts(message, [part for part in choice.parts if isinstance(part, Reasoning)])
    lists: list[Any] = []
    for position, part in enumerate(choice.parts):
        place = f"{where}.parts.{position}"
        match part:
            case Text() | Reasoning() | Refusal():
                losses += losses_of(part.rest, DIALECT, place)
                if not isinstance(part, Reasoning):
                    _put_words(message, part, place, losses)
            case ToolCall() | UnknownPart() if is_call(part):
                message.setdefault(TOOL_CALLS, []).append(encode_call(part, place, losses))
            case Image() | UnknownPart() if rank(part) == PICTURE:
                message.setdefault(IMAGES, []).append(encode_part(part, place, losses))
            case UnknownPart():
                lists.append(encode_part(part, place, losses))
            case _:
                raise inexpressible(place)
    if lists:
        words = message.get(CONTENT)
        message[CONTENT] = [{"type": "text", "text": words}, *lists] if words else lists
    document: dict[str, Any] = {"index": choice.index, "message": message, "finish_reason": word_of(choice.finish)}
    if choice.scores:
        document["logprobs"] = encode_scores(choice.scores)
    with_rest(document, choice.rest, DIALECT)
    for name in (CONTENT, "refusal"):
        message.setdefault(name, None)
    document.setdefault("logprobs", None)
    return document


def _put_words(message: dict[str, Any], part: Text | Refusal, place: str, losses: list[Loss]) -> None:
    name = MEMBERS[rank(part)]
    before = message.get(name, "")
    message[name] = before + part.text
    if isinstance(part, Refusal):
        return
    annotations = annotations_of(part.citations, len(before), len(part.text), place, losses)
    if annotations:
        message.setdefault(ANNOTATIONS, []).extend(annotations)
    if part.seal is not None:
        if "extra_content" in message:
            losses.append(Loss(LossKind.SEAL, place))  # one proof only has room; the last stays
        message.update(extra_content(part.seal))


def annotations_of(
    citations: Sequence[Citation], before: int, length: int, place: str, losses: list[Loss]
) -> list[dict[str, Any]]:
    """The annotations for the citations of a text, of `length` characters, that follows `before` others."""
    return encode_citations([placed(citation, before, length) for citation in citations], place, losses)


def losses_at_end(finish: Finish, where: str) -> list[Loss]:
    """What an end says that this dialect has no word for: which stop sequence was met."""
    return [Loss(LossKind.MARK, f"{where}.finish.stop")] if finish.stop is not None else []


def rank(part: Part) -> int:
    """The place of a part among the kinds of parts of an answer, in the order in which this dialect says them."""
    match part:
        case Reasoning():
            return REASONING
        case Text():
            return TEXT
        case Refusal():
            return REFUSAL
        case Image():
            return PICTURE
        case UnknownPart(place=place) if place == IMAGES:
            return PICTURE
    return CALL if is_call(part) else OTHER


def in_order(parts: Sequence[Part]) -> bool:
    """Whether this dialect says these parts in this order and division."""
    ranks = [rank(part) for part in parts]
    return ranks == sorted(ranks) and ranks.count(TEXT) < 2 and ranks.count(REFUSAL) < 2


def encode_usage(usage: Usage) -> dict[str, Any]:
    """The `usage` object."""
    document: dict[str, Any] = {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
    }
    if usage.special:
        document["prompt_tokens_details"] = {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_creation,
            "audio_tokens": usage.audio_input,
        }
        document["completion_tokens_details"] = {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": usage.audio_output,
        }
    return document
