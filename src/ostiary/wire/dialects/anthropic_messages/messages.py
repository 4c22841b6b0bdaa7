"""Turns of a request, from and to the pivot. It must not reorder what a turn says without telling.

Source: official Python SDK 2.12, `types.MessageParam` and `MessageCreateParams.system`. Results of tools stand in the
user's turn, before what he says himself; turns of one speaker in a row are one turn. Version 2026-10-21 takes neither
documents in the assistant's turns nor citations in the user's (platform.claude.com, API versioning).

An empty list left in `rest` at `content` stands for "it was a list", at `role` for "it stood among the turns".
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.wire.conversation.conversation import Message, Role, UnknownMessage
from ostiary.wire.conversation.members import EMPTY_LIST, Members, with_rest
from ostiary.wire.conversation.parts import Cache, Document, Part, Reasoning, Text, ToolResult
from ostiary.wire.conversation.unknown import Loss, LossKind, Rest, find, inexpressible, losses_of
from ostiary.wire.dialects.anthropic_messages.parts import (
    CONTENT,
    DIALECT,
    RAWS,
    STRING,
    decode_blocks,
    encode_block,
    is_plain,
    own_citations,
    proof_of,
)
from ostiary.wire.profile import Profile

_STRICTER = "2026-10-21"  # the version since when some content is refused; versions are dates
_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM}
_BINDING = frozenset({CONTENT})


def is_stricter(profile: Profile) -> bool:
    """Whether a model is spoken to in version 2026-10-21 or later. Clouds name versions of their own, all older."""
    return profile.version[:1].isdigit() and profile.version >= _STRICTER


def decode_system(members: Members) -> list[Message]:
    """The instructions that stand before all turns; none where there are none."""
    text = members.take("system", STRING)
    if text is not None:
        return [Message(Role.SYSTEM, (Text(text),))]
    raws = members.take("system", RAWS)
    if not raws:
        if raws is not None:
            members.put_back("system", EMPTY_LIST)
        return []
    parts = tuple(decode_blocks(raws))
    outer = Members({CONTENT: EMPTY_LIST} if is_plain(parts) else {})
    return [Message(Role.SYSTEM, parts, rest=outer.rest(DIALECT))]


def decode_turn(raw: msgspec.Raw, where: str) -> list[Message | UnknownMessage]:
    """One turn; each result of a tool in it is a message of its own.

    Raises:
        Fault: INVALID_REQUEST for what is no object.
    """
    members = Members.of(raw)
    if members is None:
        raise Fault(Kind.INVALID_REQUEST, f"{where!r} must be an object", param=where)
    role = _ROLES.get(members.take("role", STRING) or "")
    if role is None:
        return [UnknownMessage(DIALECT, raw)]
    if role is Role.SYSTEM:
        members.put_back("role", EMPTY_LIST)
    text = members.take(CONTENT, STRING)
    parts: list[Part] = [Text(text)] if text is not None else []
    raws = members.take(CONTENT, RAWS) if text is None else None
    if raws is not None:
        parts = decode_blocks(raws, results=role is Role.USER)
        if is_plain(parts):
            members.put_back(CONTENT, EMPTY_LIST)
    groups = _groups(role, parts)
    rest = members.rest(DIALECT, _BINDING)
    first = Message(groups[0][0], groups[0][1], rest=rest)
    return [first, *(Message(speaker, said) for speaker, said in groups[1:])]


def _groups(role: Role, parts: list[Part]) -> list[tuple[Role, tuple[Part, ...]]]:
    """The parts of a turn, each result of a tool by itself."""
    groups: list[tuple[Role, tuple[Part, ...]]] = []
    for part in parts:
        if isinstance(part, ToolResult):
            groups.append((Role.TOOL, (part,)))
        elif groups and groups[-1][0] is role:
            groups[-1] = (role, (*groups[-1][1], part))
        else:
            groups.append((role, (part,)))
    return groups or [(role, ())]


class _Turn:
    """A turn that is being written."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.results: list[Any] = []
        self.blocks: list[Any] = []
        self.rest: Rest = ()
        self.plain: str | None = None  # the one string that it says

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {"role": self.role}
        if self.plain is not None:
            document[CONTENT] = self.plain
        elif self.results or self.blocks:
            document[CONTENT] = [*self.results, *self.blocks]
        return with_rest(document, self.rest, DIALECT)


class TurnWriter:
    """Writes the messages of a conversation as instructions and turns.

    Args:
        losses: grows by what could not be said.
    """

    def __init__(self, profile: Profile, losses: list[Loss]) -> None:
        self._losses = losses
        self._marks = profile.cache_marks
        self._stricter = is_stricter(profile)
        self._system: list[Any] = []
        self._plain_system: str | None = None
        self._turns: list[_Turn | msgspec.Raw] = []

    def add(self, message: Message | UnknownMessage, where: str) -> None:
        """The next message.

        Raises:
            Fault: INVALID_REQUEST for content this dialect cannot say.
        """
        if isinstance(message, UnknownMessage):
            if message.said_by != DIALECT:
                raise inexpressible(where)
            self._turns.append(message.value)
            return
        self._losses += losses_of(message.rest, DIALECT, where)
        if message.name is not None:
            self._losses.append(Loss(LossKind.MARK, f"{where}.name"))
        if message.role in (Role.SYSTEM, Role.DEVELOPER) and find(message.rest, DIALECT, "role") is None:
            self._instruct(message, where)
        else:
            self._say(message, where)

    def system(self) -> str | list[Any] | None:
        """The instructions; None where there are none."""
        return self._system or None if self._plain_system is None else self._plain_system

    def turns(self) -> list[Any]:
        """The turns."""
        return [turn.document() if isinstance(turn, _Turn) else turn for turn in self._turns]

    def _instruct(self, message: Message, where: str) -> None:
        if self._turns or self._system or self._plain_system is not None or message.role is Role.DEVELOPER:
            self._losses.append(Loss(LossKind.SHAPE, where))
        if self._plain_system is not None:
            self._system, self._plain_system = [{"type": "text", "text": self._plain_system}], None
        if not self._system:
            self._plain_system = _only_words(message)
        if self._plain_system is None:
            self._system += self._blocks(message, where)

    def _say(self, message: Message, where: str) -> None:
        role = "user" if message.role is Role.TOOL else message.role.value
        blocks = self._blocks(message, where)
        if not blocks and find(message.rest, DIALECT, CONTENT) is None:
            return  # nothing is left of it
        last = self._turns[-1] if self._turns else None
        if isinstance(last, _Turn) and last.role == role and role != "system":
            if last.blocks:
                self._losses.append(Loss(LossKind.SHAPE, where))
            last.plain = None
            turn = last
        else:
            turn = _Turn(role)
            turn.plain = _only_words(message)
            self._turns.append(turn)
        turn.rest += message.rest
        if message.role is Role.TOOL:
            turn.results += blocks
        else:
            turn.blocks += blocks

    def _blocks(self, message: Message, where: str) -> list[Any]:
        blocks = []
        alone = len(message.parts) == 1
        for index, part in enumerate(message.parts):
            if isinstance(part, ToolResult) and message.role is not Role.TOOL:
                raise inexpressible(f"{where}.parts.{index}")
            if part == Text("") and not alone:
                continue  # providers refuse blocks without words
            block = self._block(part, message.role, f"{where}.parts.{index}")
            if block is not None:
                blocks.append(block)
        return blocks

    def _block(self, part: Part, role: Role, where: str) -> Any:
        """One block; None for reasoning that nobody vouches for: providers refuse it."""
        if isinstance(part, Reasoning):
            proof = proof_of(part.seal)
            if proof is None:
                self._losses.append(Loss(LossKind.SEAL, where))
                return None
            self._losses += losses_of(part.rest, DIALECT, where)
            return encode_thinking(part, proof)
        if isinstance(part, Document) and role is Role.ASSISTANT and self._stricter:
            raise inexpressible(where)
        marked = getattr(part, "cache", None)
        if isinstance(marked, Cache) and not self._marks:
            self._losses.append(Loss(LossKind.MARK, f"{where}.cache"))
            part = msgspec.structs.replace(part, cache=None)
        block = encode_block(part, where, self._losses)
        if getattr(part, "seal", None) is not None:
            self._losses.append(Loss(LossKind.SEAL, where))
        if isinstance(part, Text) and part.citations:
            if role is not Role.ASSISTANT and self._stricter:
                self._losses.append(Loss(LossKind.MARK, f"{where}.citations"))
            else:
                block |= own_citations(part, where, self._losses)
        return block


def encode_thinking(part: Reasoning, proof: str) -> dict[str, Any]:
    """A block of reasoning with its proof, as text that this dialect keeps."""
    if part.hidden:
        return with_rest({"type": "redacted_thinking", "data": proof}, part.rest, DIALECT)
    return with_rest({"type": "thinking", "thinking": part.text, "signature": proof}, part.rest, DIALECT)


def _only_words(message: Message) -> str | None:
    """The string that a message is, where it says no more."""
    first = message.parts[0] if message.parts else None
    if isinstance(first, Text) and is_plain(message.parts) and find(message.rest, DIALECT, CONTENT) is None:
        return first.text
    return None
