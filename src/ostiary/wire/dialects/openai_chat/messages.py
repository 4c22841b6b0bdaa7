"""Messages of a request, from and to the pivot. It must not reorder what a message says without telling.

Source: OpenAI API reference, chat completions, messages (official Python SDK 3.54, `types.chat`). `reasoning_content`
is not OpenAI's, but what most compatible servers read and write; nor are `images` and `thinking_blocks`, which clients
echo where an answer had them, or `cache_control` on a message. A turn of an unknown role, or of a tool that answers
no call, is kept whole as an `UnknownMessage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.wire.conversation.conversation import Message, Role, UnknownMessage
from ostiary.wire.conversation.members import EMPTY_LIST, Members, with_rest
from ostiary.wire.conversation.parts import (
    Content,
    Image,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    UnknownPart,
)
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind, Rest, find, inexpressible, losses_of
from ostiary.wire.dialects.openai_chat.citations import ANNOTATIONS, encode_citations, take_citations
from ostiary.wire.dialects.openai_chat.parts import (
    CONTENT,
    IMAGES,
    TOOL_CALLS,
    decode_call,
    decode_part,
    decode_picture,
    encode_call,
    encode_part,
    in_list,
    is_call,
    is_plain,
    noted,
    put_cache,
    take_cache,
)
from ostiary.wire.dialects.openai_chat.proofs import extra_content, put_thoughts, take_text_seal, take_thoughts
from ostiary.wire.dialects.openai_chat.values import DIALECT, RAWS, STRING

_ROLES = {role.value: role for role in Role}
# Members of a message that are content; the others are marks.
_BINDING = frozenset({"content", "refusal", "reasoning_content", "tool_calls", "audio", "function_call", "images"})
# Where a client put what could stand in two places; it says nothing to anybody else, and is written nowhere.
_ON_MESSAGE = Extra("", ("cache_control",), msgspec.Raw(b"null"))
_IN_CONTENT = Extra("", ("content",), msgspec.Raw(b"null"))


def decode_message(raw: msgspec.Raw, where: str) -> Message | UnknownMessage:
    """One turn.

    Raises:
        Fault: INVALID_REQUEST for what is no object.
    """
    members = Members.of(raw)
    if members is None:
        raise Fault(Kind.INVALID_REQUEST, f"{where!r} must be an object", param=where)
    role = _ROLES.get(members.take("role", STRING) or "")
    if role is None:
        return UnknownMessage(DIALECT, raw)
    parts: list[Part] = []
    if role is Role.TOOL:
        call_id = members.take("tool_call_id", STRING)
        if call_id is None:
            return UnknownMessage(DIALECT, raw)
        parts.append(ToolResult(call_id, tuple(_content(members)), cache=take_cache(members)))
    elif role is Role.ASSISTANT:
        parts += _said(members)
    else:
        parts += _content(members)
    note: Rest = ()
    if role is not Role.TOOL and parts and isinstance(last := parts[-1], Text) and last.cache is None:
        parts[-1] = msgspec.structs.replace(last, cache=take_cache(members))
        note = (_ON_MESSAGE,) if parts[-1] != last else ()
    return Message(role, tuple(parts), members.take("name", STRING), noted(members.rest(DIALECT, _BINDING), note))


def _content(members: Members) -> list[Content]:
    text = members.take(CONTENT, STRING)
    if text is not None:
        return [Text(text)]
    raws = members.take(CONTENT, RAWS)
    if raws is None:
        return []
    parts = [decode_part(raw) for raw in raws]
    if is_plain(parts):
        members.put_back(CONTENT, EMPTY_LIST)
    return parts


def _said(members: Members) -> list[Part]:
    parts: list[Part] = [*take_thoughts(members, members.take("reasoning_content", STRING))]
    parts += _words(members)
    raws = members.take(IMAGES, RAWS)
    if raws == []:
        members.put_back(IMAGES, EMPTY_LIST)
    parts += [decode_picture(raw) for raw in raws or ()]
    refusal = members.take("refusal", STRING)
    if refusal is not None:
        parts.append(Refusal(refusal))
    calls = members.take(TOOL_CALLS, RAWS)
    if calls == []:
        members.put_back(TOOL_CALLS, EMPTY_LIST)
    return parts + [decode_call(call) for call in calls or ()]


def _words(members: Members) -> list[Part]:
    """The content of an assistant, with what stands beside it: where the words come from, and their proof."""
    parts: list[Part] = [*_content(members)]
    for place, part in enumerate(parts):
        if isinstance(part, Image):
            parts[place] = msgspec.structs.replace(part, rest=noted(part.rest, (_IN_CONTENT,)))
    texts = [place for place, part in enumerate(parts) if isinstance(part, Text)]
    if len(texts) == 1:
        beside = {"citations": take_citations(members), "seal": take_text_seal(members)}
        parts[texts[0]] = msgspec.structs.replace(parts[texts[0]], **beside)
    return parts


def encode_message(message: Message | UnknownMessage, where: str, losses: list[Loss]) -> Any:
    """One turn, as JSON values.

    Raises:
        Fault: INVALID_REQUEST for content this dialect cannot say.
    """
    if isinstance(message, UnknownMessage):
        if message.said_by != DIALECT:
            raise inexpressible(where)
        return message.value
    losses += losses_of(message.rest, DIALECT, where)
    document: dict[str, Any] = {"role": message.role.value}
    if message.name is not None:
        document["name"] = message.name
    parts = message.parts
    if _ON_MESSAGE in message.rest and parts and isinstance(last := parts[-1], Text):
        put_cache(document, last.cache)
        parts = (*parts[:-1], msgspec.structs.replace(last, cache=None))
    match message.role, parts:
        case Role.TOOL, (ToolResult(call_id, parts, failed) as result,):
            document["tool_call_id"] = call_id
            put_cache(document, result.cache)
            losses += losses_of(result.rest, DIALECT, f"{where}.parts.0")
            if failed:
                losses.append(Loss(LossKind.MARK, f"{where}.parts.0.failed"))
            _put_content(document, parts, message.rest, f"{where}.parts.0", losses)
        case Role.ASSISTANT, parts:
            _put_said(document, parts, message.rest, where, losses)
        case _, parts:
            _put_content(document, parts, message.rest, where, losses)
    return with_rest(document, message.rest, DIALECT)


def _put_content(document: dict[str, Any], parts: Sequence[Part], rest: Rest, where: str, losses: list[Loss]) -> None:
    if len(parts) == 1 and is_plain(parts) and find(rest, DIALECT, CONTENT) is None:
        document[CONTENT] = parts[0].text  # type: ignore[union-attr]  # a plain part is a Text
    elif parts:
        document[CONTENT] = [encode_part(part, f"{where}.parts.{index}", losses) for index, part in enumerate(parts)]


def _put_said(document: dict[str, Any], parts: Sequence[Part], rest: Rest, where: str, losses: list[Loss]) -> None:
    reasoning = [part for part in parts if isinstance(part, Reasoning)]
    pictures = [part for part in parts if _is_picture(part)]
    content = [part for part in parts if in_list(part) and not _is_picture(part)]
    refusals = [part for part in parts if isinstance(part, Refusal) and not in_list(part)]
    calls = [part for part in parts if is_call(part)]
    ordered: list[Part] = [*reasoning, *content, *pictures, *refusals, *calls]
    if len(ordered) < len(parts):
        raise inexpressible(where)
    if ordered != list(parts) or len(refusals) > 1:
        losses.append(Loss(LossKind.SHAPE, where))
    for rest_beside in [part.rest for part in reasoning] + [part.rest for part in refusals]:
        losses += losses_of(rest_beside, DIALECT, where)
    put_thoughts(document, reasoning)
    _put_content(document, content, rest, where, losses)
    _put_beside(document, [part for part in content if isinstance(part, Text)], where, losses)
    if pictures:
        document[IMAGES] = [encode_part(part, where, losses) for part in pictures]
    if refusals:
        document["refusal"] = "".join(part.text for part in refusals)
    if calls:
        document[TOOL_CALLS] = [
            encode_call(call, where, losses) for call in calls if isinstance(call, (ToolCall, UnknownPart))
        ]


def _put_beside(document: dict[str, Any], texts: Sequence[Text], where: str, losses: list[Loss]) -> None:
    """What stands beside the words of an assistant; beside several texts it no longer tells which is meant."""
    citations = [citation for text in texts for citation in text.citations]
    annotations = encode_citations(citations, where, losses)
    if annotations:
        document[ANNOTATIONS] = annotations
    sealed = [text for text in texts if text.seal is not None]
    if sealed and sealed[-1].seal is not None:
        document.update(extra_content(sealed[-1].seal))
    if len(texts) > 1 and (annotations or sealed):
        losses.append(Loss(LossKind.SHAPE, where))
    losses += [Loss(LossKind.SEAL, where) for _ in sealed[1:]]


def _is_picture(part: Part) -> bool:
    """Whether a part of an assistant's turn stands in `images`."""
    if isinstance(part, Image):
        return _IN_CONTENT not in part.rest
    return isinstance(part, UnknownPart) and part.place == IMAGES
