"""Messages and system blocks of a request, from and to the pivot. It must not reorder what is said without telling.

Source: botocore 1.44, `bedrock-runtime` 2023-09-30: Message, ConversationRole, SystemContentBlock; Amazon Bedrock user
guide. Roles alternate, and all results of a turn's tools stand in one message of the user, which the pivot tells as
turns of the tools and of the user.

System blocks are the first message of the pivot. A turn that this dialect said in its role "system" has that role in
its rest; other later words of the system join the system blocks.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ostiary.core.fault import Fault, Kind
from ostiary.wire.conversation.conversation import Message, Role, UnknownMessage
from ostiary.wire.conversation.members import EMPTY_LIST, Members, with_rest
from ostiary.wire.conversation.parts import Cache, Part, Reasoning, Seal, Text, ToolCall, ToolResult, UnknownPart
from ostiary.wire.conversation.seals import carry
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind, Rest, find, inexpressible, losses_of
from ostiary.wire.dialects.bedrock_converse.media import DIALECT, STRING, Names
from ostiary.wire.dialects.bedrock_converse.parts import (
    CONTENT,
    RAWS,
    REASONING,
    cache_point,
    decode_blocks,
    encode_block,
)
from ostiary.wire.profile import Profile

SYSTEM = "system"
MESSAGES = "messages"
_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT, SYSTEM: Role.SYSTEM}
_OWN_ROLE = Extra(DIALECT, ("role",), msgspec.Raw(b'"system"'))
_BINDING = frozenset({CONTENT})


def decode_messages(members: Members) -> tuple[Message | UnknownMessage, ...]:
    """The turns of a request, its system blocks first.

    Raises:
        Fault: INVALID_REQUEST where `messages` is something else than a list of objects.
    """
    found: list[Message | UnknownMessage] = []
    blocks = members.take(SYSTEM, RAWS)
    if blocks == []:
        members.put_back(SYSTEM, EMPTY_LIST)
    elif blocks is not None:
        found.append(Message(Role.SYSTEM, tuple(decode_blocks(blocks))))
    raws = members.take(MESSAGES, RAWS)
    if raws is None and MESSAGES in members:
        raise Fault(Kind.INVALID_REQUEST, "'messages' must be a list", param=MESSAGES)
    if raws == []:
        members.put_back(MESSAGES, EMPTY_LIST)
    for index, raw in enumerate(raws or ()):
        found += _decode_turns(raw, f"{MESSAGES}.{index}")
    return tuple(found)


def _decode_turns(raw: msgspec.Raw, where: str) -> Iterator[Message | UnknownMessage]:
    members = Members.of(raw)
    if members is None:
        raise Fault(Kind.INVALID_REQUEST, f"{where!r} must be an object", param=where)
    role, blocks = _ROLES.get(members.take("role", STRING) or ""), members.take(CONTENT, RAWS)
    if role is None or blocks is None:
        yield UnknownMessage(DIALECT, raw)
        return
    rest = members.rest(DIALECT, _BINDING)
    if role is Role.SYSTEM:
        rest = tuple(sorted((*rest, _OWN_ROLE), key=lambda extra: extra.path))
    parts = decode_blocks(blocks, results=role is Role.USER)
    said: list[Part] = []
    begun = False
    for part in parts:
        if not isinstance(part, ToolResult):
            said.append(part)
            continue
        if said:
            yield Message(role, tuple(said), rest=() if begun else rest)
            said, begun = [], True
        yield Message(Role.TOOL, (part,), rest=() if begun else rest)
        begun = True
    if said or not begun:
        yield Message(role, tuple(said), rest=() if begun else rest)


class MessageWriter:
    """Writes the turns of one request: `system` and `messages`, and what they do not say."""

    def __init__(self, profile: Profile, losses: list[Loss]) -> None:
        self.system: list[Any] = []
        self.messages: list[Any] = []
        self._cache_marks = profile.cache_marks
        self._losses = losses
        self._names = Names()
        self._last: Role | None = None  # whose turn it was before, on the wire
        self._said: Role | None = None  # and in the pivot
        self._hoisted = False

    def write(self, turns: Sequence[Message | UnknownMessage]) -> None:
        """All turns of a request.

        Raises:
            Fault: INVALID_REQUEST for content this dialect cannot say.
        """
        for index, turn in enumerate(turns):
            where = f"{MESSAGES}.{index}"
            if isinstance(turn, UnknownMessage):
                if turn.said_by != DIALECT:
                    raise inexpressible(where)
                self.messages.append(turn.value)
                self._last = None
                continue
            self._losses += losses_of(turn.rest, DIALECT, where)
            if turn.name is not None:
                self._losses.append(Loss(LossKind.MARK, f"{where}.name"))
            own = find(turn.rest, DIALECT, "role") is not None
            if turn.role in (Role.SYSTEM, Role.DEVELOPER) and not own:
                self._system(turn, where)
            else:
                self._turn(turn, where)

    def _system(self, turn: Message, where: str) -> None:
        if self._hoisted or self.messages or turn.role is Role.DEVELOPER:
            self._losses.append(Loss(LossKind.SHAPE, where))
        self._hoisted = True
        for index, part in enumerate(turn.parts):
            place = f"{where}.parts.{index}"
            if not isinstance(part, (Text, UnknownPart)):
                raise inexpressible(place)
            cited = isinstance(part, Text) and bool(part.citations)
            self._losses += [Loss(LossKind.MARK, f"{place}.citations")] if cited else []
            plain = msgspec.structs.replace(part, citations=()) if cited else part
            self.system += self._blocks(plain, place, alone=False)

    def _turn(self, turn: Message, where: str) -> None:
        role = Role.USER if turn.role is Role.TOOL else turn.role
        blocks: list[Any] = []
        for index, part in enumerate(turn.parts):
            place = f"{where}.parts.{index}"
            if isinstance(part, ToolResult) is not (turn.role is Role.TOOL):
                raise inexpressible(place)
            blocks += self._blocks(part, place, alone=len(turn.parts) == 1)
        if turn.parts and not blocks:
            return  # a message that says nothing is refused
        if role is not self._last or role is Role.SYSTEM:
            self.messages.append(with_rest({"role": role.value, CONTENT: blocks}, turn.rest, DIALECT))
        else:
            if turn.role is not Role.TOOL and self._said is turn.role:
                self._losses.append(Loss(LossKind.SHAPE, where))  # two turns become one
            message = self.messages[-1]
            message[CONTENT] += blocks
            with_rest(message, turn.rest, DIALECT)
        self._last, self._said = role, turn.role

    def _blocks(self, part: Part, where: str, *, alone: bool) -> list[Any]:
        """The blocks for a part: itself and its cache point, or none."""
        if isinstance(part, Reasoning):
            return encode_reasoning(part, where, self._losses)
        if isinstance(part, Text) and not part.text and not alone and not part.citations:
            self._losses.append(Loss(LossKind.SHAPE, where))  # this dialect refuses empty text
            return []
        if isinstance(part, (Text, ToolCall)) and part.seal is not None:
            self._losses.append(Loss(LossKind.SEAL, where))
        blocks = [encode_block(part, self._names, where, self._losses)]
        cache = self._cache_of(part, where)
        if cache is not None and self._cache_marks:
            blocks.append(cache_point(cache, where, self._losses))
        elif cache is not None:
            self._losses.append(Loss(LossKind.MARK, f"{where}.cache"))
        return blocks

    def _cache_of(self, part: Part, where: str) -> Cache | None:
        own: Cache | None = getattr(part, "cache", None)
        if not isinstance(part, ToolResult):
            return own
        for index, inner in enumerate(part.parts):  # no mark can stand within a result, but one after it
            mark: Cache | None = getattr(inner, "cache", None)
            if mark is not None:
                self._losses.append(Loss(LossKind.SHAPE, f"{where}.parts.{index}.cache"))
                own = own or mark
        return own


def encode_reasoning(part: Reasoning, where: str, losses: list[Loss]) -> list[Any]:
    """The block for what a model thought; none where its proof is missing or another's, for it would be refused."""
    if part.seal is None or part.seal.issuer != DIALECT:
        losses.append(Loss(LossKind.SEAL, where))
        return []
    losses += losses_of(part.rest, DIALECT, where)
    return [write_reasoning(part.text, part.seal.value, part.rest, hidden=part.hidden)]


def write_reasoning(text: str, proof: str | None, rest: Rest, *, hidden: bool) -> dict[str, Any]:
    """A block of reasoning with this proof: its signature, or where it is hidden its content."""
    if hidden and proof is not None:
        return with_rest({REASONING: {"redactedContent": proof}}, rest, DIALECT)
    told = {"text": text} if proof is None else {"text": text, "signature": proof}
    return with_rest({REASONING: {"reasoningText": told}}, rest, DIALECT)


def redacted(seal: Seal, *, ahead: bool = False) -> str:
    """The redacted content under which a proof of another dialect travels, or one for the next part."""
    if seal.issuer == DIALECT and not ahead:
        return seal.value
    return base64.b64encode(carry(seal, ahead=ahead).encode()).decode()
