"""Messages of a request, from and to the pivot. It must not reorder what a message says without telling.

Source: OpenAI API reference, chat completions, messages (official Python SDK 3.54, `types.chat`). `reasoning_content`
is not OpenAI's, but what most compatible servers read and write. A turn of an unknown role, or of a tool that answers
no call, is kept whole as an `UnknownMessage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.wire.conversation.conversation import Message, Role, UnknownMessage
from ostiary.wire.conversation.members import EMPTY_LIST, Members, with_rest
from ostiary.wire.conversation.parts import Content, Part, Reasoning, Refusal, Text, ToolCall, ToolResult, UnknownPart
from ostiary.wire.conversation.unknown import Loss, LossKind, Rest, find, inexpressible, losses_of
from ostiary.wire.dialects.openai_chat.parts import (
    CONTENT,
    DIALECT,
    RAWS,
    STRING,
    TOOL_CALLS,
    decode_call,
    decode_part,
    encode_call,
    encode_part,
    in_list,
    is_call,
    is_plain,
)

_ROLES = {role.value: role for role in Role}
# Members of a message that are content; the others are marks.
_BINDING = frozenset({"content", "refusal", "reasoning_content", "tool_calls", "audio", "function_call"})


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
        parts.append(ToolResult(call_id, tuple(_content(members))))
    elif role is Role.ASSISTANT:
        parts += _said(members)
    else:
        parts += _content(members)
    return Message(role, tuple(parts), members.take("name", STRING), members.rest(DIALECT, _BINDING))


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
    parts: list[Part] = []
    reasoning = members.take("reasoning_content", STRING)
    if reasoning is not None:
        parts.append(Reasoning(reasoning))
    parts += _content(members)
    refusal = members.take("refusal", STRING)
    if refusal is not None:
        parts.append(Refusal(refusal))
    calls = members.take(TOOL_CALLS, RAWS)
    if calls == []:
        members.put_back(TOOL_CALLS, EMPTY_LIST)
    return parts + [decode_call(call) for call in calls or ()]


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
    match message.role, message.parts:
        case Role.TOOL, (ToolResult(call_id, parts, failed),):
            document["tool_call_id"] = call_id
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
    content = [part for part in parts if in_list(part)]
    refusals = [part for part in parts if isinstance(part, Refusal) and not in_list(part)]
    calls = [part for part in parts if is_call(part)]
    ordered: list[Part] = [*reasoning, *content, *refusals, *calls]
    if len(ordered) < len(parts):
        raise inexpressible(where)
    if ordered != list(parts) or len(reasoning) > 1 or len(refusals) > 1:
        losses.append(Loss(LossKind.SHAPE, where))
    for rest_beside in [part.rest for part in reasoning] + [part.rest for part in refusals]:
        losses += losses_of(rest_beside, DIALECT, where)
    losses += [Loss(LossKind.SEAL, where) for part in reasoning if part.seal is not None]
    if any(part.text or part.seal is None for part in reasoning):
        document["reasoning_content"] = "".join(part.text for part in reasoning)
    _put_content(document, content, rest, where, losses)
    if refusals:
        document["refusal"] = "".join(part.text for part in refusals)
    if calls:
        document[TOOL_CALLS] = [
            encode_call(call, where, losses) for call in calls if isinstance(call, (ToolCall, UnknownPart))
        ]
