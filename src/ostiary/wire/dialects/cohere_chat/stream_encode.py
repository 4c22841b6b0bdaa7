"""Chat streams from the pivot's events. It must not end a stream that did not end.

Source: Cohere API reference, v2 chat stream (official Python SDK 7.3, `V2ChatStreamResponse`). Content and tool calls
are numbered each for themselves, citations too; chances stand in a `content-delta`; usage and the reason of the end
stand in `message-end`, the last event.
"""

from __future__ import annotations

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
from ostiary.wire.conversation.members import UNREADABLE, with_rest
from ostiary.wire.conversation.parts import Citation, Part, Reasoning, Refusal, Text, ToolCall, UnknownPart
from ostiary.wire.conversation.reply import Finish
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind, inexpressible, losses_of
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.cohere_chat.citations import encode_citation
from ostiary.wire.dialects.cohere_chat.faults import encode_fault_event, truncated
from ostiary.wire.dialects.cohere_chat.messages import CITATIONS
from ostiary.wire.dialects.cohere_chat.parts import (
    CONTENT,
    DIALECT,
    OF_ASSISTANT,
    RAWS,
    TOOL_CALLS,
    TOOL_PLAN,
    encode_call,
    encode_part,
    is_call,
    is_plan,
    unsaid,
)
from ostiary.wire.dialects.cohere_chat.reply import LOGPROBS, is_hidden, item_of, word_of
from ostiary.wire.dialects.cohere_chat.usage import encode_usage

_THINKING, _WORDS, _PLAN, _CALL, _WHOLE = "thinking", "text", "plan", "call", "whole"
_RANKS = {_THINKING: 0, _WORDS: 0, _WHOLE: 0, _PLAN: 1, _CALL: 2}
_encode = msgspec.json.Encoder().encode


class _Growing:
    """A part that is being told: its kind, its number in this dialect, and its text so far."""

    def __init__(self, kind: str, number: int) -> None:
        self.kind = kind
        self.number = number
        self.pieces: list[str] = []
        self.open = True


class StreamEncoder:
    """Writes one stream: events in, server-sent events out.

    `losses` grows by what could not be said.

    Args:
        answering: the names of the answer.
    """

    def __init__(self, answering: Answering) -> None:
        self.losses: list[Loss] = []
        self._id = answering.id
        self._begun = self._failed = False
        self._parts: dict[int, _Growing] = {}
        self._contents = self._calls = self._citations = self._rank = 0
        self._held: list[Any] = []  # chances that came before any content
        self._finish: Finish | None = None
        self._usage: Usage | None = None
        self._rest: list[Extra] = []  # for the last event

    def encode(self, event: Event) -> bytes:
        """The bytes for one event; often none.

        Raises:
            Fault: INVALID_REQUEST for content this dialect cannot say.
        """
        if self._failed:
            return b""
        match event:
            case PartDelta(0, index, text):
                return self._more(self._parts[index], text)
            case PartStart(0, index, part):
                return self._start(index, part)
            case PartEnd(0, index, seal):
                if seal is not None:
                    self.losses.append(Loss(LossKind.SEAL, f"choices.0.parts.{index}"))
                return self._close(self._parts[index])
            case Cited(0, index, citation):
                return self._cite(index, citation)
            case Scored(0, scores):
                where = "choices.0.scores"
                return b"".join(self._score(item_of(score, where, self.losses)) for score in scores)
            case Aside(0 | None as choice, extra):
                return self._aside(choice, extra)
            case Metered(usage):
                self._usage = usage
            case Finished(0, finish):
                self._finish = finish
                return self._opening()
            case Failed():
                self._failed = True
                return encode_fault_event(event.to_fault())
            case Opened(tier=tier):
                if tier:
                    self.losses.append(Loss(LossKind.MARK, "tier"))
                return self._opening()
            case _:
                raise inexpressible("choices.1")
        return b""

    def end(self) -> bytes:
        """The end of the stream; an error event where the answer has not finished."""
        if self._failed:
            return b""
        if self._finish is None:
            self._failed = True
            return encode_fault_event(truncated())
        opening = self._opening()
        closing = b"".join(self._close(part) for part in self._parts.values())
        if self._held:
            self.losses.append(Loss(LossKind.MARK, "choices.0.scores"))
        delta: dict[str, Any] = {"finish_reason": word_of(self._finish, self.losses)}
        if self._usage is not None:
            delta["usage"] = encode_usage(self._usage)
        with_rest(delta, tuple(self._rest), DIALECT)
        return opening + closing + _event("message-end", {"id": self._id, "delta": delta})

    def _opening(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return _event("message-start", {"id": self._id, "delta": {"message": {"role": "assistant"}}})

    def _start(self, index: int, part: Part) -> bytes:
        opening = self._opening()
        where = f"choices.0.parts.{index}"
        if is_hidden(part) or (isinstance(part, Reasoning) and part.hidden):
            self.losses.append(Loss(LossKind.SEAL, where))
            self._parts[index] = _Growing(_WHOLE, -1)
            return opening
        kind = _kind(part)
        if _RANKS[kind] < self._rank or (kind == _PLAN and any(told.kind == _PLAN for told in self._parts.values())):
            self.losses.append(Loss(LossKind.SHAPE, where))
        self._rank = max(self._rank, _RANKS[kind])
        if kind == _PLAN:
            self.losses += unsaid(part, where)
            growing = self._parts[index] = _Growing(kind, 0)
            return opening + (self._more(growing, part.text) if isinstance(part, Reasoning) and part.text else b"")
        if kind == _CALL and isinstance(part, (ToolCall, UnknownPart)):
            return opening + self._start_call(index, part, where)
        growing = self._parts[index] = _Growing(kind, self._contents)
        self._contents += 1
        written = encode_part(part, OF_ASSISTANT, where, self.losses)
        growing.pieces += [part.text] if isinstance(part, (Text, Refusal)) else []
        start = _event("content-start", {"index": growing.number, "delta": {"message": {CONTENT: written}}})
        held, self._held = self._held, []
        cited = getattr(part, "citations", ())
        return b"".join([opening, start, *map(self._score, held), *(self._cite(index, citation) for citation in cited)])

    def _start_call(self, index: int, call: ToolCall | UnknownPart, where: str) -> bytes:
        growing = self._parts[index] = _Growing(_CALL, self._calls)
        self._calls += 1
        planned = [part for part in self._parts.values() if part.kind == _PLAN]
        closing = b"".join(self._close(part) for part in planned)
        written = encode_call(call, where, self.losses)
        return closing + _event(
            "tool-call-start", {"index": growing.number, "delta": {"message": {TOOL_CALLS: written}}}
        )

    def _more(self, part: _Growing, text: str) -> bytes:
        if part.kind == _PLAN:
            return _event("tool-plan-delta", {"delta": {"message": {TOOL_PLAN: text}}})
        if part.kind == _CALL:
            call = {"function": {"arguments": text}}
            return _event("tool-call-delta", {"index": part.number, "delta": {"message": {TOOL_CALLS: call}}})
        if part.number < 0:
            return b""
        if part.kind == _WORDS:
            part.pieces.append(text)
        return _event("content-delta", {"index": part.number, "delta": {"message": {CONTENT: {part.kind: text}}}})

    def _close(self, part: _Growing) -> bytes:
        was_open, part.open = part.open, False
        if not was_open or part.kind == _PLAN or part.number < 0:
            return b""
        return _event("tool-call-end" if part.kind == _CALL else "content-end", {"index": part.number})

    def _cite(self, index: int, citation: Citation) -> bytes:
        part = self._parts[index]
        number = self._citations
        where = f"choices.0.parts.{index}.citations.{number}"
        text = "".join(part.pieces)
        part.pieces = [text]
        return self._cited(encode_citation(citation, part.number, text, where, self.losses))

    def _cited(self, written: Any) -> bytes:
        number, self._citations = self._citations, self._citations + 1
        start = _event("citation-start", {"index": number, "delta": {"message": {CITATIONS: written}}})
        return self._opening() + start + _event("citation-end", {"index": number})

    def _score(self, item: Any) -> bytes:
        """A chance, with the content that came last."""
        latest = [part for part in self._parts.values() if part.kind in (_WORDS, _THINKING) and part.number >= 0]
        if not latest:
            self._held.append(item)
            return b""
        content = {latest[-1].kind: ""}
        document = {"index": latest[-1].number, "delta": {"message": {CONTENT: content}}, LOGPROBS: item}
        return _event("content-delta", document)

    def _aside(self, choice: int | None, extra: Extra) -> bytes:
        self.losses += losses_of((extra,), DIALECT, "" if choice is None else "choices.0")
        if extra.said_by != DIALECT:
            return b""
        items = _items(extra.value) if extra.path in ((LOGPROBS,), ("message", CITATIONS)) else None
        if items is None:
            self._rest.append(extra)
            return b""
        write = self._score if extra.path == (LOGPROBS,) else self._cited
        return b"".join(write(item) for item in items)


def _kind(part: Part) -> str:
    if is_plan(part):
        return _PLAN
    if is_call(part):
        return _CALL
    if isinstance(part, Reasoning):
        return _THINKING
    return _WORDS if isinstance(part, (Text, Refusal)) else _WHOLE


def _items(raw: msgspec.Raw) -> list[msgspec.Raw] | None:
    try:
        return RAWS.decode(raw)
    except UNREADABLE:
        return None


def _event(kind: str, document: dict[str, Any]) -> bytes:
    data = _encode({"type": kind, **document})
    if b"\n" in data or b"\r" in data:  # of a member kept as it came: an event's data is one line
        data = msgspec.json.format(data, indent=-1)
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"
