"""Contents of a request, from and to the turns of the pivot. It must not reorder what is said without telling.

Source: official Python SDK 3.4, `types.Content`. Roles are user and model; results of functions stand in a content of
the user (once of a role of their own, "function"). A content of the user is one turn of the pivot for each result in
it, and one for each run of other parts; contents of the model that follow each other are one turn, because the official
SDKs keep an answer's chunks one by one. A content of another role is kept whole as an `UnknownMessage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.wire.conversation.conversation import Message, Role, UnknownMessage
from ostiary.wire.conversation.members import with_rest
from ostiary.wire.conversation.parts import Part, Reasoning, Text, ToolCall, ToolResult
from ostiary.wire.conversation.unknown import Loss, LossKind, Rest, inexpressible, losses_of
from ostiary.wire.dialects.gemini_generate.calls import Ledger, decode_result, encode_call, encode_result
from ostiary.wire.dialects.gemini_generate.fields import DIALECT, STRING, UNCHECKED, Fields
from ostiary.wire.dialects.gemini_generate.parts import (
    PARTS,
    RESULT,
    decode_part,
    encode_part,
    encode_thought,
    kind_of,
    sealed,
)
from ostiary.wire.dialects.gemini_generate.telling import parts_of

_USER, _MODEL = "user", "model"
_ROLES = {_USER: _USER, "function": _USER, "": _USER, _MODEL: _MODEL}
_BINDING = frozenset({PARTS})
_SPEAKERS = {Role.USER: _USER, Role.TOOL: _USER, Role.ASSISTANT: _MODEL}


def decode_contents(raws: Sequence[msgspec.Raw]) -> tuple[Message | UnknownMessage, ...]:
    """The turns of a conversation.

    Raises:
        Fault: INVALID_REQUEST for what is no object.
    """
    reading = _Reading()
    for index, raw in enumerate(raws):
        members = Fields.of(raw)
        if members is None:
            where = f"contents.{index}"
            raise Fault(Kind.INVALID_REQUEST, f"{where!r} must be an object", param=where)
        reading.content(members, raw)
    return reading.messages()


def decode_system(raw: msgspec.Raw) -> Message | None:
    """The system's instruction; None for what is none."""
    members = Fields.of(raw)
    parts = members.items(PARTS) if members is not None else None
    if members is None or parts is None:
        return None
    members.take("role", STRING)
    return Message(
        Role.SYSTEM, tuple(_plain(part, Fields.of(part)) for part in parts), rest=members.rest(DIALECT, _BINDING)
    )


def _plain(raw: msgspec.Raw, members: Fields | None) -> Part:
    """A part that stands alone; a proof without words is a hidden thought."""
    part = decode_part(raw, members)
    if isinstance(part, Text | Reasoning) and not part.text and part.seal is not None:
        return Reasoning("", part.seal, part.rest, hidden=True)
    return part


class _Reading:
    """A conversation that is being read."""

    def __init__(self) -> None:
        self._turns: list[Message | UnknownMessage] = []
        self._ledger = Ledger()
        self._said: list[msgspec.Raw] = []  # the parts of the model's turn that is open
        self._rest: Rest | None = None  # what is left over of it; None where none is open
        self._spoken = 0

    def content(self, members: Fields, raw: msgspec.Raw) -> None:
        """One more content."""
        role = _ROLES.get(members.take("role", STRING) or "") if "role" in members else _USER
        raws = members.items(PARTS)
        if role is None or "role" in members or PARTS in members:  # the last two: odd, and left
            self._close()
            self._turns.append(UnknownMessage(DIALECT, raw))
            return
        rest = members.rest(DIALECT, _BINDING)
        if role == _USER:
            self._close()
            self._user(raws or [], rest)
            return
        if rest or self._rest is None:
            self._close()
            self._rest = rest
        self._said += raws or []

    def messages(self) -> tuple[Message | UnknownMessage, ...]:
        """All turns."""
        self._close()
        return tuple(self._turns)

    def _close(self) -> None:
        """The end of the model's turn."""
        if self._rest is None:
            return
        parts = parts_of(self._said, str(self._spoken))
        self._spoken += 1
        for part in parts:
            if isinstance(part, ToolCall):
                self._ledger.called(part)
        self._turns.append(Message(Role.ASSISTANT, parts, rest=self._rest))
        self._said, self._rest = [], None

    def _user(self, raws: list[msgspec.Raw], rest: Rest) -> None:
        turns: list[Message] = []
        run: list[Part] = []
        for raw in raws:
            members = Fields.of(raw)
            answered = members is not None and kind_of(members) == RESULT
            result = decode_result(members, self._ledger) if answered and members is not None else None
            if result is None:
                run.append(_plain(raw, members))
                continue
            if run:
                turns.append(Message(Role.USER, tuple(run)))
                run = []
            turns.append(Message(Role.TOOL, (result,)))
        if run or not turns:
            turns.append(Message(Role.USER, tuple(run)))
        self._turns += [msgspec.structs.replace(turns[0], rest=rest), *turns[1:]]


def encode_contents(
    messages: Sequence[Message | UnknownMessage], losses: list[Loss], *, unchecked: bool
) -> tuple[list[Any], dict[str, Any] | None]:
    """The contents and the system's instruction.

    Args:
        messages: the turns.
        losses: grows by what is not said.
        unchecked: the first call of a turn without a proof of Google's asks not to be checked for one.

    Raises:
        Fault: INVALID_REQUEST for content this dialect cannot say.
    """
    writing = _Writing(losses, unchecked=unchecked)
    for index, message in enumerate(messages):
        writing.message(message, f"messages.{index}")
    return writing.contents, writing.system


class _Writing:
    """A conversation that is being written."""

    def __init__(self, losses: list[Loss], *, unchecked: bool) -> None:
        self.contents: list[Any] = []
        self.system: dict[str, Any] | None = None
        self._losses = losses
        self._unchecked = unchecked
        self._names: dict[str, str] = {}
        self._last: Message | None = None  # the turn that the last content ends with
        self._called = False  # the last content has a call

    def message(self, message: Message | UnknownMessage, where: str) -> None:
        """One more turn."""
        if isinstance(message, UnknownMessage):
            if message.said_by != DIALECT:
                raise inexpressible(where)
            self.contents.append(message.value)
            self._last = None
            return
        self._losses += losses_of(message.rest, DIALECT, where)
        if message.name is not None:
            self._losses.append(Loss(LossKind.MARK, f"{where}.name"))
        if message.role in (Role.SYSTEM, Role.DEVELOPER):
            self._instruct(message, where)
        else:
            self._say(message, where)

    def _instruct(self, message: Message, where: str) -> None:
        parts = self._heard(message, where)
        if message.parts and not parts:
            return
        if message.role is Role.DEVELOPER or self.system is not None or self.contents:
            self._losses.append(Loss(LossKind.SHAPE, where))
        if self.system is None:
            self.system = with_rest({PARTS: []}, message.rest, DIALECT)
        self.system[PARTS] += parts

    def _say(self, message: Message, where: str) -> None:
        role, last = _SPEAKERS[message.role], self._last
        goes_on = last is not None and _SPEAKERS[last.role] == role and not _own(message.rest)
        if not goes_on:
            self._called = False
        parts = self._turn(message, where)
        if message.parts and not parts:
            return  # nothing that could be sent is left of it, and its loss is told
        if goes_on and last is not None:
            if message.role is last.role is not Role.TOOL or not (parts and last.parts):
                self._losses.append(Loss(LossKind.SHAPE, where))
            self.contents[-1][PARTS] += parts
        else:
            self.contents.append(with_rest({"role": role, PARTS: parts}, message.rest, DIALECT))
        self._last = message

    def _turn(self, message: Message, where: str) -> list[Any]:
        if message.role is Role.ASSISTANT:
            if not _divided(message.parts):
                self._losses.append(Loss(LossKind.SHAPE, where))
            said = (self._said(part, f"{where}.parts.{index}") for index, part in enumerate(message.parts))
            return [part for part in said if part is not None]
        return self._heard(message, where)

    def _heard(self, message: Message, where: str) -> list[Any]:
        """The parts of a turn that is not the model's. Texts without words are refused by Vertex AI, and left out."""
        places = [(part, f"{where}.parts.{index}") for index, part in enumerate(message.parts) if not _silent(part)]
        if len(places) < len(message.parts):
            self._losses.append(Loss(LossKind.SHAPE, where))
        return [self._asked(part, place) for part, place in places]

    def _asked(self, part: Part, where: str) -> Any:
        """A part of the user's."""
        if isinstance(part, ToolResult):
            return encode_result(part, self._names, where, self._losses)
        if isinstance(part, Reasoning):
            document: Any = encode_thought(part, where, self._losses)
        else:
            document = encode_part(part, where, self._losses)
        return self._proven(part, document, where)

    def _said(self, part: Part, where: str) -> Any:
        """A part of the model's; None for the thought of another model."""
        if isinstance(part, Reasoning):
            if part.seal is not None and part.seal.issuer != DIALECT:
                self._losses.append(Loss(LossKind.SEAL, where))
                return None
            if part.hidden and part.seal is None:
                return None
            return self._proven(part, encode_thought(part, where, self._losses), where)
        if _silent(part):
            return None
        if not isinstance(part, ToolCall):
            if isinstance(part, Text) and part.citations:
                self._losses.append(Loss(LossKind.MARK, f"{where}.citations"))
            return self._proven(part, encode_part(part, where, self._losses), where)
        self._names[part.id] = part.name
        document = self._proven(part, encode_call(part, where, self._losses), where)
        first, self._called = not self._called, True
        if first and self._unchecked and (part.seal is None or part.seal.issuer != DIALECT):
            sealed(document, UNCHECKED)
        return document

    def _proven(self, part: Part, document: Any, where: str) -> Any:
        """A part with its proof, where it is Google's."""
        seal = getattr(part, "seal", None)
        if seal is None:
            return document
        if seal.issuer != DIALECT:
            self._losses.append(Loss(LossKind.SEAL, where))
            return document
        return sealed(document, seal.value)


def _silent(part: Part) -> bool:
    """Whether a part says nothing at all."""
    return isinstance(part, Text) and not part.text and part.seal is None and not _own(part.rest)


def _own(rest: Rest) -> bool:
    return any(extra.said_by == DIALECT for extra in rest)


def _divided(parts: Sequence[Part]) -> bool:
    """Whether these parts of the model's come back in the same division: words of one kind grow together."""
    last: Part | None = None
    for part in parts:
        if isinstance(part, Text | Reasoning):
            own = part.seal is not None and part.seal.issuer == DIALECT
            silent = not part.text and not (isinstance(part, Reasoning) and part.hidden and own)
            if silent or (last is not None and _grows(last, part)):
                return False
        last = part
    return True


def _grows(last: Part, part: Text | Reasoning) -> bool:
    if not isinstance(last, Text | Reasoning) or last.seal is not None or part.rest:
        return False
    if isinstance(part, Reasoning) and part.hidden:
        own = part.seal is not None and part.seal.issuer == DIALECT
        return isinstance(last, Text) is own and not (isinstance(last, Reasoning) and last.hidden)
    return type(last) is type(part)
