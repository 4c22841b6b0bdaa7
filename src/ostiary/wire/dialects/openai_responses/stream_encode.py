"""Streams of a response from the pivot's events. It must not end a stream that did not end.

Source: official Python SDK 3.54, `types.responses.ResponseStreamEvent`: server-sent events whose `event` is the `type`
in their data, numbered by `sequence_number` from 0; the last is `response.completed`, `response.incomplete` or
`response.failed`. There is no `[DONE]`.

Items are told one after another: a part that begins while another is being told is held until that one ends. Only
reasoning gives way at once, so that an answer is not held back where its end is told late; what comes for it after that
is another item.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.core.fault import Fault
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
from ostiary.wire.conversation.parts import Citation, Part, Reasoning, Seal
from ostiary.wire.conversation.reply import Finish
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind, inexpressible, losses_of
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.openai_responses.faults import failure, truncated
from ostiary.wire.dialects.openai_responses.marks import DIALECT
from ostiary.wire.dialects.openai_responses.output import Output
from ostiary.wire.dialects.openai_responses.reply import lost_of, surrounded
from ostiary.wire.dialects.openai_responses.response import INCOMPLETE, ended, frame
from ostiary.wire.dialects.openai_responses.settings import wants_proofs
from ostiary.wire.framing.sse import sse_event

_encode = msgspec.json.Encoder().encode


class _Held:
    """A part that waits until the one before it has been told."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.pieces: list[str] = []
        self.citations: list[Citation] = []
        self.ended = False
        self.seal: Seal | None = None


class StreamEncoder:
    """Writes one stream: events in, server-sent events out. `losses` grows by what could not be said."""

    def __init__(self, answering: Answering) -> None:
        self.losses: list[Loss] = []
        self._frame = frame(answering)
        proven = wants_proofs(answering.asked)
        self._output = Output(id=answering.id, emit=self._emit, losses=self.losses, proven=proven)
        self._written: list[bytes] = []
        self._number = 0
        self._current: int | None = None
        self._thinking = False  # the current part is reasoning
        self._held: dict[int, _Held] = {}
        self._gone: set[int] = set()  # reasoning that has given way
        self._finish: Finish | None = None
        self._usage: Usage | None = None
        self._tier = ""
        self._rest: dict[tuple[str, ...], Extra] = {}
        self._over = False

    def encode(self, event: Event) -> bytes:
        """The bytes for one event; often none.

        Raises:
            Fault: INVALID_REQUEST for content this dialect cannot say.
        """
        if self._over:
            return b""
        match event:
            case PartDelta(_, index, text):
                self._delta(index, text)
            case PartStart(choice, index, part):
                self._only(choice)
                self._open()
                self._start(index, _Held(part))
            case PartEnd(_, index, seal):
                self._end(index, seal)
            case Cited(_, index, citation):
                if index == self._current:
                    self._output.cite(citation)
                elif index in self._held:
                    self._held[index].citations.append(citation)
            case Scored(choice, scores):
                self._only(choice)
                self._output.score(scores)
            case Finished(choice, finish):
                self._only(choice)
                self._open()
                self._drain()
                self._finish = finish
                self.losses += lost_of(finish, f"choices.{choice}")
            case Failed():
                self._fail(event.to_fault())
            case _:
                self._around(event)
        return self._taken()

    def end(self) -> bytes:
        """The end of the stream; `response.failed` where the answer has not finished."""
        if self._over:
            return b""
        if self._finish is None:
            self._fail(truncated())
            return self._taken()
        self._over = True
        told = ended(self._frame, self._finish)
        self._output.finish(told["status"] if told["status"] == INCOMPLETE else "completed")
        told["output"] = self._output.items
        response = surrounded(told, self._usage, self._tier, tuple(self._rest.values()), self.losses)
        self._emit(
            "response.incomplete" if told["status"] == INCOMPLETE else "response.completed", {"response": response}
        )
        return self._taken()

    def _around(self, event: Event) -> None:
        """What is not of the output."""
        match event:
            case Opened(_, _, tier):
                self._tier = tier or self._tier
                self._open()
            case Metered(usage):
                self._usage = usage
            case Aside(None, extra):
                if extra.said_by == DIALECT:
                    self._rest[extra.path] = extra
                else:
                    self.losses += losses_of((extra,), DIALECT, "")
            case Aside(int(choice), extra):
                self.losses += losses_of((extra,), DIALECT, f"choices.{choice}")

    def _only(self, choice: int) -> None:
        if choice:
            raise inexpressible(f"choices.{choice}")

    def _open(self) -> None:
        if not self._number:
            for kind in ("response.created", "response.in_progress"):
                self._emit(kind, {"response": self._frame})

    def _start(self, index: int, held: _Held) -> None:
        if self._current is not None and self._thinking:
            self._output.end(None)  # its own end may come much later
            self._gone.add(self._current)
            self._current = None
        if self._current is not None:
            self._held[index] = held
            return
        self._tell(index, held)

    def _tell(self, index: int, held: _Held) -> None:
        """Begin a part with what has come for it."""
        self._output.start(held.part, f"choices.0.parts.{index}")
        for citation in held.citations:
            self._output.cite(citation)
        if held.pieces:
            self._output.more("".join(held.pieces))
        if held.ended:
            self._output.end(held.seal)
        else:
            self._current, self._thinking = index, isinstance(held.part, Reasoning)

    def _delta(self, index: int, text: str) -> None:
        if index == self._current:
            self._output.more(text)
        elif index in self._held:
            self._held[index].pieces.append(text)
        elif index in self._gone and text:
            self._again(index, Reasoning(text), None)

    def _end(self, index: int, seal: Seal | None) -> None:
        if index == self._current:
            self._output.end(seal)
            self._current = None
            self._next()
        elif index in self._held:
            self._held[index].ended, self._held[index].seal = True, seal
        elif index in self._gone and seal is not None:
            self._again(index, Reasoning("", hidden=True), seal)

    def _again(self, index: int, thought: Reasoning, seal: Seal | None) -> None:
        """More of reasoning that has given way, as an item of its own."""
        self.losses.append(Loss(LossKind.SHAPE, f"choices.0.parts.{index}"))
        held = _Held(thought)
        held.ended, held.seal = seal is not None, seal
        self._start(index, held)

    def _next(self) -> None:
        """Tell what was held, as far as it goes."""
        while self._current is None and self._held:
            index = next(iter(self._held))
            self._tell(index, self._held.pop(index))

    def _drain(self) -> None:
        """The answer has come to its end, and with it every part."""
        while self._current is not None:
            self._end(self._current, None)

    def _fail(self, fault: Fault) -> None:
        self._open()
        self._over = True
        self._output.abandon()
        response = {**self._frame, "status": "failed", "error": failure(fault), "output": self._output.items}
        if self._usage is not None:
            response = surrounded(response, self._usage, "", (), self.losses)
        self._emit("response.failed", {"response": response})

    def _emit(self, kind: str, members: dict[str, Any]) -> None:
        event = {"type": kind, "sequence_number": self._number, **members}
        self._number += 1
        self._written.append(sse_event(_encode(event), kind.encode()))

    def _taken(self) -> bytes:
        written, self._written = b"".join(self._written), []
        return written
