"""Messages of this dialect, from and to the pivot. It must not reorder what a message says without telling.

Source: Ollama's API documentation, chat (official Python package 0.6, `Message`). Content is one string, where "" and
none say the same; images and tool calls stand beside it.

Which call a tool's message answers is told by `tool_call_id` in newer versions, else by `tool_name`, else by order:
`Calls` keeps the book. `tool_name` is written wherever it is known, and kept as the message's name only where it is not
that of the call. A turn of an unknown role, or of a tool that answers no call, is kept whole as an `UnknownMessage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.wire.conversation.conversation import Message, Role, UnknownMessage
from ostiary.wire.conversation.members import EMPTY_LIST, Members, with_rest
from ostiary.wire.conversation.parts import Content, Part, Reasoning, Refusal, Text, ToolCall, ToolResult, UnknownPart
from ostiary.wire.conversation.unknown import Loss, LossKind, inexpressible, losses_of
from ostiary.wire.dialects.ollama_chat.parts import (
    CONTENT,
    DIALECT,
    IMAGES,
    RAWS,
    STRING,
    THINKING,
    TOOL_CALLS,
    decode_call,
    decode_image,
    encode_call,
    encode_image,
    is_call,
    unsaid,
)

# Members of a message that are content; the others are marks.
BINDING = frozenset({CONTENT, IMAGES, TOOL_CALLS})
_ROLES = {"system": Role.SYSTEM, "user": Role.USER, "assistant": Role.ASSISTANT, "tool": Role.TOOL}


class Calls:
    """The calls of a conversation so far, and which of them have been answered."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._open: list[str] = []
        self._made: set[str] = set()

    def called(self, parts: Sequence[Part], message: int) -> None:
        """A model has called tools; what went before stays unanswered."""
        calls = [(number, part) for number, part in enumerate(filter(is_call, parts)) if isinstance(part, ToolCall)]
        if calls:
            self._names |= {call.id: call.name for _, call in calls}
            self._open = [call.id for _, call in calls]
            self._made |= {call.id for number, call in calls if call.id == made_id(message, number)}

    def name_of(self, call_id: str) -> str | None:
        """The tool that was called, None where there was no such call."""
        return self._names.get(call_id)

    def is_made(self, call_id: str) -> bool:
        """Whether the call has no id of its own."""
        return call_id in self._made

    def meant(self, name: str | None) -> str | None:
        """The call that a result without an id answers: the first open one of that name, or at all."""
        return next((call for call in self._open if name is None or self._names[call] == name), None)

    def answered(self, call_id: str) -> None:
        """A result has come for a call."""
        if call_id in self._open:
            self._open.remove(call_id)


def made_id(message: int, number: int) -> str:
    """The id of a call that has none: the `number`th of a message."""
    return f"call_{message}_{number}"


def decode_message(raw: msgspec.Raw, index: int, calls: Calls) -> Message | UnknownMessage:
    """The turn that is the `index`th of a conversation.

    Raises:
        Fault: INVALID_REQUEST for what is no object.
    """
    members = Members.of(raw)
    if members is None:
        where = f"messages.{index}"
        raise Fault(Kind.INVALID_REQUEST, f"{where!r} must be an object", param=where)
    role = _ROLES.get(members.take("role", STRING) or "")
    if role is None:
        return UnknownMessage(DIALECT, raw)
    if role is Role.TOOL:
        return _decode_result(raw, members, calls)
    parts: list[Part] = []
    if role is Role.ASSISTANT:
        thought = members.take(THINKING, STRING)
        if thought is not None:
            parts.append(Reasoning(thought))
    parts += _content(members)
    if role is Role.ASSISTANT:
        raws = members.take(TOOL_CALLS, RAWS)
        if raws == []:
            members.put_back(TOOL_CALLS, EMPTY_LIST)
        parts += [decode_call(call, made_id(index, number)) for number, call in enumerate(raws or ())]
        calls.called(parts, index)
    return Message(role, tuple(parts), None, members.rest(DIALECT, BINDING))


def _decode_result(raw: msgspec.Raw, members: Members, calls: Calls) -> Message | UnknownMessage:
    name, call_id = members.take("tool_name", STRING), members.take("tool_call_id", STRING)
    if call_id is None:
        call_id = calls.meant(name)
    if call_id is None:
        return UnknownMessage(DIALECT, raw)
    calls.answered(call_id)
    result = ToolResult(call_id, tuple(_content(members)))
    return Message(
        Role.TOOL, (result,), None if name == calls.name_of(call_id) else name, members.rest(DIALECT, BINDING)
    )


def _content(members: Members) -> list[Content]:
    text = members.take(CONTENT, STRING)
    images = members.take(IMAGES, RAWS)
    if images == []:
        members.put_back(IMAGES, EMPTY_LIST)
    words: list[Content] = [Text(text)] if text else []
    return words + [decode_image(raw) for raw in images or ()]


def encode_message(message: Message | UnknownMessage, index: int, calls: Calls, losses: list[Loss]) -> Any:
    """The turn that is the `index`th of a conversation, as JSON values.

    Raises:
        Fault: INVALID_REQUEST for content this dialect cannot say.
    """
    where = f"messages.{index}"
    if isinstance(message, UnknownMessage):
        if message.said_by != DIALECT:
            raise inexpressible(where)
        return message.value
    losses += losses_of(message.rest, DIALECT, where)
    role = message.role.value
    if message.role is Role.DEVELOPER:  # the nearest this dialect has
        losses.append(Loss(LossKind.SHAPE, where))
        role = Role.SYSTEM.value
    document: dict[str, Any] = {"role": role}
    if message.name is not None and message.role is not Role.TOOL:
        losses.append(Loss(LossKind.MARK, f"{where}.name"))
    match message.role, message.parts:
        case Role.TOOL, (ToolResult() as result,):
            _put_result(document, result, message, where, calls, losses)
        case Role.ASSISTANT, parts:
            _put_said(document, parts, index, losses)
            calls.called(parts, index)
        case _, parts:
            _put_content(document, list(enumerate(parts)), "\n", where, losses)
    with_rest(document, message.rest, DIALECT)
    document.setdefault(CONTENT, "")
    return document


def _put_result(
    document: dict[str, Any], result: ToolResult, message: Message, where: str, calls: Calls, losses: list[Loss]
) -> None:
    place = f"{where}.parts.0"
    losses += losses_of(result.rest, DIALECT, place)
    if result.failed:
        losses.append(Loss(LossKind.MARK, f"{place}.failed"))
    if result.cache is not None:
        losses.append(Loss(LossKind.MARK, f"{place}.cache"))
    name = message.name if message.name is not None else calls.name_of(result.call_id)
    if name is not None:
        document["tool_name"] = name
    if not calls.is_made(result.call_id) or calls.meant(name) != result.call_id:
        document["tool_call_id"] = result.call_id
    calls.answered(result.call_id)
    _put_content(document, list(enumerate(result.parts)), "\n", place, losses)


def _put_said(document: dict[str, Any], parts: Sequence[Part], index: int, losses: list[Loss]) -> None:
    where = f"messages.{index}"
    kept = []
    for number, part in enumerate(parts):
        if isinstance(part, Reasoning) and part.seal is not None:
            losses.append(Loss(LossKind.SEAL, f"{where}.parts.{number}"))  # its issuer alone reads it
        else:
            kept.append((number, part))
    thoughts = [(number, part) for number, part in kept if isinstance(part, Reasoning)]
    calls = [(number, part) for number, part in kept if is_call(part)]
    content = [(number, part) for number, part in kept if not is_call(part) and not isinstance(part, Reasoning)]
    if [*thoughts, *content, *calls] != kept or len(thoughts) > 1:
        losses.append(Loss(LossKind.SHAPE, where))
    if thoughts:
        document[THINKING] = "".join(part.text for _, part in thoughts)
        for number, part in thoughts:
            losses += losses_of(part.rest, DIALECT, f"{where}.parts.{number}")
    _put_content(document, content, "", where, losses)
    if calls:
        document[TOOL_CALLS] = [
            encode_call(call, made_id(index, place), f"{where}.parts.{number}", losses)
            for place, (number, call) in enumerate(calls)
            if isinstance(call, (ToolCall, UnknownPart))
        ]


def _put_content(
    document: dict[str, Any], parts: Sequence[tuple[int, Part]], between: str, where: str, losses: list[Loss]
) -> None:
    """Words into one string, with `between` where a part ends, and images beside them."""
    words = [(number, part) for number, part in parts if isinstance(part, (Text, Refusal))]
    images = [(number, part) for number, part in parts if not isinstance(part, (Text, Refusal))]
    if [*words, *images] != list(parts) or len(words) > 1:
        losses.append(Loss(LossKind.SHAPE, where))
    for number, part in words:
        place = f"{where}.parts.{number}"
        losses += losses_of(part.rest, DIALECT, place)
        losses += unsaid(part, place)
        if isinstance(part, Refusal):
            losses.append(Loss(LossKind.MARK, place))
    if words:
        document[CONTENT] = between.join(part.text for _, part in words)
    if images:
        document[IMAGES] = [encode_image(part, f"{where}.parts.{number}", losses) for number, part in images]
