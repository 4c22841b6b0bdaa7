"""Messages of this dialect, from and to the pivot. It must not reorder what a message says without telling.

Source: Cohere API reference, v2 chat, messages (official Python SDK 7.3, `ChatMessageV2`). A turn of an unknown role,
or of a tool that answers no call, is kept whole as an `UnknownMessage`. An empty list in `rest` at `content`,
`tool_calls` or `citations` stands for "it was a list".
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.wire.conversation.conversation import Message, Role, UnknownMessage
from ostiary.wire.conversation.members import EMPTY_LIST, UNREADABLE, Members, with_rest
from ostiary.wire.conversation.parts import Content, Part, Reasoning, Text, ToolCall, ToolResult, UnknownPart
from ostiary.wire.conversation.unknown import Loss, LossKind, Rest, find, inexpressible, losses_of
from ostiary.wire.dialects.cohere_chat.citations import attach, encode_citation
from ostiary.wire.dialects.cohere_chat.parts import (
    CONTENT,
    DIALECT,
    OF_ASSISTANT,
    OF_SYSTEM,
    OF_TOOL,
    OF_USER,
    RAWS,
    STRING,
    TOOL_CALLS,
    TOOL_PLAN,
    decode_call,
    decode_part,
    encode_call,
    encode_part,
    is_call,
    is_plain,
    is_plan,
    plan,
    unsaid,
)

CITATIONS = "citations"
# Members of a message that are content; the others are marks.
BINDING = frozenset({CONTENT, TOOL_CALLS, TOOL_PLAN})
_ROLES = {"system": Role.SYSTEM, "user": Role.USER, "assistant": Role.ASSISTANT, "tool": Role.TOOL}
_KINDS = {Role.SYSTEM: OF_SYSTEM, Role.DEVELOPER: OF_SYSTEM, Role.USER: OF_USER}
_encode = msgspec.json.Encoder().encode


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
    parts: Sequence[Part]
    if role is Role.TOOL:
        call_id = members.take("tool_call_id", STRING)
        if call_id is None:
            return UnknownMessage(DIALECT, raw)
        told = [part for part in _content(members, OF_TOOL) if not isinstance(part, Reasoning)]
        parts = [ToolResult(call_id, tuple(told))]
    elif role is Role.ASSISTANT:
        parts = _said(members)
    else:
        parts = _content(members, _KINDS[role])
    return Message(role, tuple(parts), None, members.rest(DIALECT, BINDING))


def _content(members: Members, kinds: Set[str]) -> list[Content | Reasoning]:
    text = members.take(CONTENT, STRING)
    if text is not None:
        return [Text(text)]
    raws = members.take(CONTENT, RAWS)
    if raws is None:
        return []
    parts = [decode_part(raw, kinds) for raw in raws]
    if is_plain(parts):
        members.put_back(CONTENT, EMPTY_LIST)
    return parts


def _said(members: Members) -> list[Part]:
    parts = take_cited(members, _content(members, OF_ASSISTANT))
    planned = members.take(TOOL_PLAN, STRING)
    if planned is not None:
        parts.append(plan(planned))
    calls = members.take(TOOL_CALLS, RAWS)
    if calls == []:
        members.put_back(TOOL_CALLS, EMPTY_LIST)
    return parts + [decode_call(call) for call in calls or ()]


def take_cited(members: Members, content: Sequence[Part]) -> list[Part]:
    """Content with the citations that a message has for it; others stay with the message."""
    raws = members.take(CITATIONS, RAWS)
    if raws is None:
        return list(content)
    parts, left = attach(content, raws)
    if left or not raws:
        members.put_back(CITATIONS, msgspec.Raw(_encode(left)))
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
    if message.name is not None:
        losses.append(Loss(LossKind.MARK, f"{where}.name"))
    role = message.role.value
    if message.role is Role.DEVELOPER:  # the nearest this dialect has
        losses.append(Loss(LossKind.SHAPE, where))
        role = Role.SYSTEM.value
    document: dict[str, Any] = {"role": role}
    match message.role, message.parts:
        case Role.TOOL, (ToolResult() as result,):
            _put_result(document, result, message.rest, f"{where}.parts.0", losses)
        case Role.ASSISTANT, parts:
            put_said(document, _unsealed(parts, where, losses), message.rest, where, losses)
        case _, parts:
            _put_content(document, list(enumerate(parts)), _KINDS[message.role], message.rest, where, losses)
    return with_rest(document, message.rest, DIALECT)


Placed = Sequence[tuple[int, Part]]  # parts with their places in the message


def _unsealed(parts: Sequence[Part], where: str, losses: list[Loss]) -> Placed:
    """A turn without the reasoning of others: who sealed it reads it only with its seal."""
    kept = []
    for index, part in enumerate(parts):
        if isinstance(part, Reasoning) and part.seal is not None:
            losses.append(Loss(LossKind.SEAL, f"{where}.parts.{index}"))
        else:
            kept.append((index, part))
    return kept


def _put_result(document: dict[str, Any], result: ToolResult, rest: Rest, where: str, losses: list[Loss]) -> None:
    document["tool_call_id"] = result.call_id
    losses += losses_of(result.rest, DIALECT, where)
    if result.failed:
        losses.append(Loss(LossKind.MARK, f"{where}.failed"))
    if result.cache is not None:
        losses.append(Loss(LossKind.MARK, f"{where}.cache"))
    _put_content(document, list(enumerate(result.parts)), OF_TOOL, rest, where, losses)
    if not result.parts and find(rest, DIALECT, CONTENT) is None:
        document[CONTENT] = ""  # it must be there


def _put_content(
    document: dict[str, Any], parts: Placed, kinds: Set[str], rest: Rest, where: str, losses: list[Loss]
) -> None:
    written = [encode_part(part, kinds, f"{where}.parts.{index}", losses) for index, part in parts]
    for index, part in parts:
        if isinstance(part, Text) and part.citations and kinds is not OF_ASSISTANT:
            losses.append(Loss(LossKind.MARK, f"{where}.parts.{index}.citations"))
    if len(parts) == 1 and is_plain([parts[0][1]]) and find(rest, DIALECT, CONTENT) is None:
        document[CONTENT] = written[0]["text"]
    elif parts:
        document[CONTENT] = written


def put_said(document: dict[str, Any], parts: Placed, rest: Rest, where: str, losses: list[Loss]) -> None:
    """What a model said, written into its message.

    Raises:
        Fault: INVALID_REQUEST for content this dialect cannot say.
    """
    content = [(index, part) for index, part in parts if not is_plan(part) and not is_call(part)]
    plans = [(index, part) for index, part in parts if is_plan(part)]
    calls = [(index, part) for index, part in parts if is_call(part)]
    if [*content, *plans, *calls] != list(parts) or len(plans) > 1:
        losses.append(Loss(LossKind.SHAPE, where))
    _put_content(document, content, OF_ASSISTANT, rest, where, losses)
    if plans:
        document[TOOL_PLAN] = "".join(part.text for _, part in plans if isinstance(part, Reasoning))
        losses += [loss for index, part in plans for loss in unsaid(part, f"{where}.parts.{index}")]
    if calls:
        document[TOOL_CALLS] = [
            encode_call(call, f"{where}.parts.{index}", losses)
            for index, call in calls
            if isinstance(call, (ToolCall, UnknownPart))
        ]
    cited = [
        encode_citation(citation, position, part.text, f"{where}.parts.{index}.citations.{number}", losses)
        for position, (index, part) in enumerate(content)
        if isinstance(part, Text)
        for number, citation in enumerate(part.citations)
    ]
    if cited:
        document[CITATIONS] = [*cited, *_left(rest)]


def _left(rest: Rest) -> list[msgspec.Raw]:
    """The citations that belong to no text."""
    raw = find(rest, DIALECT, CITATIONS)
    try:
        return RAWS.decode(raw) if raw is not None else []
    except UNREADABLE:
        return []
