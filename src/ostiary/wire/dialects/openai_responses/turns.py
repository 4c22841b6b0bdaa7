"""The pivot's turns, to the items of a request. It must not send reasoning to a model that did not think it.

Source: official Python SDK 3.54, `types.responses.ResponseInputItemParam`. The model's own proofs are what makes its
reasoning acceptable; what it did not seal itself, and was not said in this dialect, stays behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ostiary.wire.conversation.conversation import Message, Role, UnknownMessage
from ostiary.wire.conversation.parts import Audio, Part, Reasoning, Refusal, Text, ToolCall, ToolResult, UnknownPart
from ostiary.wire.conversation.unknown import Loss, LossKind, inexpressible, losses_of
from ostiary.wire.dialects.openai_responses.items import ARGUMENTS, OUTPUT, PIECES, RAW_MARK, REASONED, SUMMARY
from ostiary.wire.dialects.openai_responses.marks import DIALECT, item_marked, marked, of_item, ours, put
from ostiary.wire.dialects.openai_responses.parts import CONTENT, encode_part, is_plain
from ostiary.wire.profile import Profile

_WORDS, _THOUGHTS, _OTHER = range(3)


class Writer:
    """Writes the items of a request, one turn after another. `losses` grows by what could not be said."""

    def __init__(self, profile: Profile, losses: list[Loss]) -> None:
        self.items: list[Any] = []
        self._profile = profile
        self._losses = losses
        self._free: set[str] = set()
        self._spoken = False

    def turn(self, message: Message | UnknownMessage, where: str) -> None:
        """One turn.

        Raises:
            Fault: INVALID_REQUEST for content this dialect cannot say.
        """
        if isinstance(message, UnknownMessage):
            if message.said_by != DIALECT:
                raise inexpressible(where)
            self._spoken = False
            self.items.append(message.value)
            return
        self._losses += losses_of(message.rest, DIALECT, where)
        if message.name is not None:
            self._losses.append(Loss(LossKind.MARK, f"{where}.name"))
        if message.role is Role.ASSISTANT:
            if self._spoken or not message.parts:
                self._losses.append(Loss(LossKind.SHAPE, where))
            self._said(message.parts, where)
        else:
            self.items.append(self._result(message, where) if message.role is Role.TOOL else self._told(message, where))
        self._spoken = message.role is Role.ASSISTANT

    def _told(self, message: Message, where: str) -> dict[str, Any]:
        role = message.role
        if role is Role.DEVELOPER and not self._profile.developer:
            self._losses.append(Loss(LossKind.SHAPE, where))
            role = Role.SYSTEM
        document: dict[str, Any] = {} if marked(message.rest, "untyped") else {"type": "message"}
        document["role"] = role.value
        document[CONTENT] = self._content(message.parts, where, as_list=marked(message.rest, "list"))
        return put(document, message.rest)

    def _content(self, parts: Sequence[Part], where: str, *, as_list: bool) -> Any:
        if not as_list and is_plain(tuple(parts)) and isinstance(parts[0], Text):
            self._losses += losses_of(parts[0].rest, DIALECT, f"{where}.parts.0")
            return parts[0].text
        caches = self._profile.cache_marks
        return [
            encode_part(part, f"{where}.parts.{place}", self._losses, usual="input_text", caches=caches)
            for place, part in enumerate(parts)
        ]

    def _result(self, message: Message, where: str) -> dict[str, Any]:
        result = message.parts[0] if len(message.parts) == 1 else None
        if not isinstance(result, ToolResult) or any(isinstance(part, Audio) for part in result.parts):
            raise inexpressible(where)
        place = f"{where}.parts.0"
        self._losses += losses_of(result.rest, DIALECT, place)
        for name, lost in (("failed", result.failed), ("cache", result.cache is not None)):
            if lost:
                self._losses.append(Loss(LossKind.MARK, f"{place}.{name}"))
        free = marked(result.rest, "custom")
        if not free and not marked(result.rest, "function"):
            free = result.call_id in self._free
        document = {"type": "custom_tool_call_output" if free else "function_call_output", "call_id": result.call_id}
        document[OUTPUT] = self._content(result.parts, place, as_list=marked(result.rest, "list"))
        return put(put(document, result.rest), message.rest)

    def _said(self, parts: Sequence[Part], where: str) -> None:
        for kind, group in _groups(parts, where):
            if kind == _WORDS:
                self.items.append(self._words(group))
            elif kind == _THOUGHTS:
                self._thoughts(group)
            else:
                self.items.append(self._other(*group[0]))

    def _words(self, group: list[tuple[Part, str]]) -> dict[str, Any]:
        first, where = group[0]
        rest = of_item(first.rest) if isinstance(first, (Text, Refusal)) else ()
        document: dict[str, Any] = {} if marked(rest, "untyped") else {"type": "message"}
        document["role"] = "assistant"
        for part, place in group:
            if isinstance(part, Text) and part.seal is not None:
                self._losses.append(Loss(LossKind.SEAL, place))
        if len(group) == 1 and isinstance(first, Text) and is_plain((first,)) and not marked(rest, "list"):
            self._losses += losses_of(first.rest, DIALECT, where)
            document[CONTENT] = first.text
        else:
            document[CONTENT] = [encode_part(part, place, self._losses, usual="output_text") for part, place in group]
        return put(document, rest)

    def _thoughts(self, group: list[tuple[Part, str]]) -> None:
        thoughts = [(part, place) for part, place in group if isinstance(part, Reasoning)]
        seals = [part.seal for part, _ in thoughts if part.seal is not None]
        foreign = any(seal.issuer != DIALECT for seal in seals)
        if foreign or not (seals or any(ours(part.rest) for part, _ in thoughts)):
            self._losses += [Loss(LossKind.SEAL, place) for _, place in thoughts]
            return
        item = of_item(thoughts[0][0].rest)
        pieces: dict[str, list[Any]] = {SUMMARY: [], REASONED: []}
        for part, place in thoughts:
            self._losses += losses_of(part.rest, DIALECT, place)
            if not part.hidden:
                name = REASONED if item_marked(part.rest, RAW_MARK) else SUMMARY
                pieces[name].append(put({"type": PIECES[name], "text": part.text}, part.rest))
        document: dict[str, Any] = {"type": "reasoning"}
        if pieces[SUMMARY] or not marked(item, "bare"):
            document[SUMMARY] = pieces[SUMMARY]
        if pieces[REASONED]:
            document[REASONED] = pieces[REASONED]
        if seals:
            document["encrypted_content"] = seals[-1].value
        self.items.append(put(document, item))

    def _other(self, part: Part, where: str) -> Any:
        if isinstance(part, UnknownPart) and part.said_by == DIALECT:
            return part.value
        if not isinstance(part, ToolCall):
            raise inexpressible(where)
        self._losses += losses_of(part.rest, DIALECT, where)
        if part.seal is not None:
            self._losses.append(Loss(LossKind.SEAL, where))
        if part.cache is not None:
            self._losses.append(Loss(LossKind.MARK, f"{where}.cache"))
        if part.free:
            self._free.add(part.id)
        kind = "custom_tool_call" if part.free else "function_call"
        document = {"type": kind, "call_id": part.id, "name": part.name, ARGUMENTS[kind]: part.arguments}
        return put(document, part.rest)


def _groups(parts: Sequence[Part], where: str) -> list[tuple[int, list[tuple[Part, str]]]]:
    """The parts that make one item each, with their places."""
    groups: list[tuple[int, list[tuple[Part, str]]]] = []
    for number, part in enumerate(parts):
        kind = _OTHER
        if isinstance(part, (Text, Refusal)) or (isinstance(part, UnknownPart) and part.place == CONTENT):
            kind = _WORDS
        elif isinstance(part, Reasoning):
            kind = _THOUGHTS
        rest = () if isinstance(part, UnknownPart) else part.rest
        goes_on = not item_marked(rest, "next") if kind == _WORDS else item_marked(rest, "more")
        place = f"{where}.parts.{number}"
        if groups and groups[-1][0] == kind and kind != _OTHER and goes_on:
            groups[-1][1].append((part, place))
        else:
            groups.append((kind, [(part, place)]))
    return groups
