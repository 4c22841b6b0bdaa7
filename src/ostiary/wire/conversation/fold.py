"""From events to the reply they tell. It must not invent an end: an answer that failed is no reply."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.events import (
    Aside,
    Cited,
    Event,
    Failed,
    Finished,
    Metered,
    Opened,
    PartDelta,
    PartEnd,
    PartStart,
    Scored,
)
from ostiary.wire.conversation.parts import Citation, Part, Reasoning, Refusal, Seal, Text, ToolCall
from ostiary.wire.conversation.reply import Choice, Finish, Reason, Reply, Score
from ostiary.wire.conversation.unknown import Extra, Rest

_Key = tuple[str, tuple[str, ...]]
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def fold(events: Iterable[Event]) -> Reply:
    """The reply that a whole stream of events tells.

    Raises:
        Fault: the one a `Failed` event carries.
    """
    answer = _Answer()
    for event in events:
        answer.take(event)
    return answer.reply()


class _Growing:
    """A part and the pieces that have come for it."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.pieces: list[str] = []
        self.seal: Seal | None = None
        self.citations: list[Citation] = []

    def whole(self) -> Part:
        more = "".join(self.pieces)
        match self.part:
            case ToolCall(arguments=text, seal=seal) as call:
                return msgspec.structs.replace(call, arguments=text + more, seal=self.seal or seal)
            case Reasoning(text=text, seal=seal) as thought:
                return msgspec.structs.replace(thought, text=text + more, seal=self.seal or seal)
            case Text(text=text, seal=seal, citations=cited) as words:
                cited = (*cited, *self.citations)
                return msgspec.structs.replace(words, text=text + more, seal=self.seal or seal, citations=cited)
            case Refusal(text=text) as refusal:
                return msgspec.structs.replace(refusal, text=text + more)
        return self.part


class _Open:
    """A choice that is being told."""

    def __init__(self) -> None:
        self.parts: dict[int, _Growing] = {}
        self.finish = Finish(Reason.OTHER)
        self.rest: dict[_Key, list[Extra]] = {}
        self.scores: list[Score] = []

    def whole(self, index: int) -> Choice:
        parts = tuple(part.whole() for _, part in sorted(self.parts.items()))
        rest = _sorted(_joined(pieces) for pieces in self.rest.values())
        return Choice(index, parts, self.finish, rest, tuple(self.scores))


class _Answer:
    """What has been told so far."""

    def __init__(self) -> None:
        self._choices: dict[int, _Open] = {}
        self._usage: Usage | None = None
        self._id = self._model = self._tier = ""
        self._rest: dict[_Key, Extra] = {}

    def take(self, event: Event) -> None:
        match event:
            case PartDelta(choice, index, text):
                self._choices[choice].parts[index].pieces.append(text)
            case PartStart(choice, index, part):
                self._choice(choice).parts[index] = _Growing(part)
            case PartEnd(choice, index, seal):
                self._choices[choice].parts[index].seal = seal
            case Cited(choice, index, citation):
                self._choices[choice].parts[index].citations.append(citation)
            case Scored(choice, scores):
                self._choice(choice).scores += scores
            case Finished(choice, finish):
                self._choice(choice).finish = finish
            case Metered(usage):
                self._usage = usage
            case Opened(id, model, tier):
                self._id, self._model, self._tier = id or self._id, model or self._model, tier or self._tier
            case Aside(None, extra):
                self._rest[extra.said_by, extra.path] = extra
            case Aside(int(choice), extra):
                self._choice(choice).rest.setdefault((extra.said_by, extra.path), []).append(extra)
            case Failed():
                raise event.to_fault()

    def reply(self) -> Reply:
        choices = tuple(choice.whole(index) for index, choice in sorted(self._choices.items()))
        rest = _sorted(self._rest.values())
        return Reply(choices=choices, usage=self._usage, id=self._id, model=self._model, rest=rest, tier=self._tier)

    def _choice(self, index: int) -> _Open:
        return self._choices.setdefault(index, _Open())


def _sorted(extras: Iterable[Extra]) -> Rest:
    return tuple(sorted(extras, key=lambda extra: (extra.path, extra.said_by)))


def _joined(pieces: list[Extra]) -> Extra:
    """One member from its pieces: arrays follow each other, objects are joined by member, else the last word counts."""
    if len(pieces) == 1:
        return pieces[0]
    try:
        value = _decode(pieces[0].value)
        for piece in pieces[1:]:
            value = _join(value, _decode(piece.value))
        return msgspec.structs.replace(pieces[-1], value=msgspec.Raw(_encode(value)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return pieces[-1]


def _join(old: Any, new: Any) -> Any:
    if isinstance(old, list) and isinstance(new, list):
        return old + new
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{name: _join(old[name], value) if name in old else value for name, value in new.items()}}
    return new
