"""Streams from the pivot's events. It must not end a stream that did not end.

Source: official Python SDK 3.4, `types.GenerateContentResponse`: each chunk is an answer with the next parts of its
candidates; every one names the answer and the model, and the last has the finish reasons, what else is known of the
candidates, and the usage. Without `alt=sse` the chunks are the items of one JSON array.

A call is told whole, when it has ended. What begins after it waits, so that the order stays; words do not wait for the
end of words before them. A proof that comes with a part's end is told in a part without words, which belongs to the one
before it.
"""

from __future__ import annotations

from collections import deque
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
from ostiary.wire.conversation.members import with_rest
from ostiary.wire.conversation.parts import Citation, Part, Reasoning, Refusal, Seal, Text, ToolCall
from ostiary.wire.conversation.reply import Finish, Score
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind, losses_of
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.gemini_generate.citations import encode_citations
from ostiary.wire.dialects.gemini_generate.faults import encode_fault, truncated
from ostiary.wire.dialects.gemini_generate.fields import DIALECT, encode
from ostiary.wire.dialects.gemini_generate.reply import Thoughts, candidate, closing, finished, is_block, joined, said
from ostiary.wire.framing.sse import sse_event

_Key = tuple[str, ...]


class _Part:
    """A part on its way out."""

    def __init__(self, index: int, part: Part) -> None:
        self.index = index
        self.part = part
        self.waiting: list[str] = []  # words that could not be told yet
        self.text: list[str] = []  # all words: of a text, for the places of its citations; of a thought, for its call
        self.seal: Seal | None = None
        self.citations: list[Citation] = []
        self.begun = False
        self.ended = False

    @property
    def grows(self) -> bool:
        """Whether it is told piece by piece."""
        return isinstance(self.part, Text | Refusal) or (isinstance(self.part, Reasoning) and not self.part.hidden)


class _Choice:
    """One candidate on its way out."""

    def __init__(self) -> None:
        self.parts: dict[int, _Part] = {}
        self.queue: deque[_Part] = deque()
        self.rest: dict[_Key, Extra] = {}
        self.scores: list[Score] = []
        self.finish: Finish | None = None
        self.thoughts = Thoughts()


class StreamEncoder:
    """Writes one stream: events in, server-sent events out.

    `losses` grows by what could not be said.

    Args:
        answering: the names of the answer.
    """

    def __init__(self, answering: Answering) -> None:
        self.losses: list[Loss] = []
        self._names = {"modelVersion": answering.model, "responseId": answering.id}
        self._choices: dict[int, _Choice] = {}
        self._rest: dict[_Key, Extra] = {}
        self._usage: Usage | None = None
        self._tier = ""
        self._failed = False

    def encode(self, event: Event) -> bytes:
        """The bytes for one event; often none.

        Raises:
            Fault: INVALID_REQUEST for content this dialect cannot say.
        """
        if self._failed:
            return b""
        match event:
            case PartDelta(choice, index, text):
                part = self._choices[choice].parts[index]
                part.waiting.append(text)
                return self._told(choice, self._pump(choice, part))
            case PartStart(choice, index, begun):
                return self._told(choice, self._start(choice, index, begun))
            case PartEnd(choice, index, seal):
                part = self._choices[choice].parts[index]
                part.ended, part.seal = True, seal
                return self._told(choice, self._pump(choice, part))
            case Failed():
                self._failed = True
                return self._fault(encode_fault(event.to_fault()))
            case _:
                self._note(event)
        return b""

    def end(self) -> bytes:
        """The end of the stream; an error event where a choice has not finished."""
        if self._failed:
            return b""
        if not all(choice.finish is not None for choice in self._choices.values()):
            self._failed = True
            return self._fault(encode_fault(truncated()))
        left = b"".join(self._told(index, self._flush(index)) for index in self._choices)
        document: dict[str, Any] = {}
        rest = tuple(sorted(self._rest.values(), key=lambda extra: extra.path))
        ends = [
            self._end(index, choice)
            for index, choice in sorted(self._choices.items())
            if choice.finish is not None and not is_block(tuple(choice.parts), choice.finish, rest)
        ]
        if ends:
            document["candidates"] = ends
        document |= closing(self._usage, self._tier, self.losses)
        return left + self._frame(encode(with_rest({**document, **self._names}, rest, DIALECT))) + self._close()

    def _note(self, event: Event) -> None:
        """What is told with the end."""
        match event:
            case Opened(_, _, tier):
                self._tier = tier or self._tier
            case Metered(usage):
                self._usage = usage
            case Cited(choice, index, citation):
                self._choices[choice].parts[index].citations.append(citation)
            case Scored(choice, scores):
                self._choice(choice).scores += scores
            case Finished(choice, finish):
                self._choice(choice).finish = finish
            case Aside(choice, extra):
                self.losses += losses_of((extra,), DIALECT, "" if choice is None else f"choices.{choice}")
                if extra.said_by == DIALECT:
                    (self._rest if choice is None else self._choice(choice).rest)[extra.path] = extra

    def _choice(self, index: int) -> _Choice:
        return self._choices.setdefault(index, _Choice())

    def _start(self, index: int, place: int, part: Part) -> list[Any]:
        choice = self._choice(index)
        entry = choice.parts[place] = _Part(len(choice.parts), part)
        last = choice.queue[-1] if choice.queue else None
        if last is not None and type(last.part) is type(part) and entry.grows and not last.ended:
            self.losses.append(Loss(LossKind.SHAPE, f"choices.{index}.parts.{place}"))
        choice.queue.append(entry)
        if entry.grows:
            # what its pieces will not say
            said(part, f"choices.{index}.parts.{entry.index}", self.losses, Thoughts())
        return self._pump(index, entry)

    def _pump(self, index: int, part: _Part) -> list[Any]:
        """The parts, or pieces of parts, that can be told now."""
        choice = self._choices[index]
        told: list[Any] = []
        if part.begun and part not in choice.queue:
            if part.waiting:  # words of a part that others have followed
                self.losses.append(Loss(LossKind.SHAPE, f"choices.{index}.parts.{part.index}"))
            if part.seal is not None:
                self.losses.append(Loss(LossKind.SEAL, f"choices.{index}.parts.{part.index}"))
                part.seal = None
            return self._words(part)
        while choice.queue:
            head = choice.queue[0]
            if head.grows:
                told += self._words(head)
                if not head.ended and len(choice.queue) == 1:
                    break
                told += _proof(head, choice.thoughts)
            elif head.ended:
                told.append(self._whole(index, head))
            else:
                break
            choice.queue.popleft()
        return told

    def _flush(self, index: int) -> list[Any]:
        """What waits for the end of a part that nobody told."""
        choice = self._choices[index]
        for part in choice.queue:
            part.ended = True
        return self._pump(index, choice.queue[0]) if choice.queue else []

    def _words(self, entry: _Part) -> list[Any]:
        """The words that wait, as one piece."""
        text = "".join(entry.waiting)
        entry.waiting = []
        part = entry.part
        if not isinstance(part, Text | Reasoning | Refusal):
            return []
        first = not entry.begun
        entry.begun = True
        text = part.text + text if first else text
        if isinstance(part, Text | Reasoning):
            entry.text.append(text)
        if not text and not (first and part.rest):
            return []
        piece = msgspec.structs.replace(part, text=text, rest=part.rest if first else ())
        if not isinstance(piece, Refusal):
            piece = msgspec.structs.replace(piece, seal=None)
        return [said(piece, "", [], Thoughts())]

    def _whole(self, index: int, entry: _Part) -> Any:
        entry.begun = True
        part, text = entry.part, "".join(entry.waiting)
        entry.waiting = []
        if isinstance(part, ToolCall):
            part = msgspec.structs.replace(part, arguments=part.arguments + text, seal=entry.seal or part.seal)
        elif isinstance(part, Reasoning):
            part = msgspec.structs.replace(part, text=part.text + text, seal=entry.seal or part.seal)
        return said(part, f"choices.{index}.parts.{entry.index}", self.losses, self._choices[index].thoughts)

    def _end(self, index: int, choice: _Choice) -> dict[str, Any]:
        where = f"choices.{index}"
        document = candidate(index, ())
        for part in choice.parts.values():
            if isinstance(part.part, Text) and (part.part.citations or part.citations):
                cited, text = (*part.part.citations, *part.citations), "".join(part.text)
                joined(document, encode_citations(cited, text, part.index, f"{where}.parts.{part.index}", self.losses))
        finish = choice.finish
        assert finish is not None
        rest = tuple(sorted(choice.rest.values(), key=lambda extra: extra.path))
        return finished(document, finish, choice.scores, rest, where, self.losses)

    def _told(self, index: int, parts: list[Any]) -> bytes:
        if not parts:
            return b""
        return self._frame(encode({"candidates": [candidate(index, parts)], **self._names}))

    def _frame(self, chunk: bytes) -> bytes:
        return sse_event(chunk)

    def _fault(self, error: bytes) -> bytes:
        return self._frame(error)

    def _close(self) -> bytes:
        return b""


class ArrayEncoder(StreamEncoder):
    """Writes one stream as the items of a JSON array, for clients that do not ask for `alt=sse`.

    Between its bytes, a line break keeps it alive as it does the other.
    """

    def __init__(self, answering: Answering) -> None:
        super().__init__(answering)
        self._begun = False

    def _frame(self, chunk: bytes) -> bytes:
        before, self._begun = b",\n" if self._begun else b"[", True
        return before + chunk

    def _fault(self, error: bytes) -> bytes:
        return self._frame(error) + b"]\n"

    def _close(self) -> bytes:
        return b"]\n"


def _proof(entry: _Part, thoughts: Thoughts) -> list[Any]:
    """The proof of a part whose words are told; that of a thought goes with the call after it, too."""
    part = entry.part
    seal = entry.seal or (part.seal if isinstance(part, Text | Reasoning) else None)
    entry.seal = None
    if seal is None or not isinstance(part, Text | Reasoning):
        return []
    if isinstance(part, Reasoning):
        thoughts.after(Reasoning("".join(entry.text), seal))
    return [said(msgspec.structs.replace(part, text="", rest=(), seal=seal), "", [], Thoughts())]
