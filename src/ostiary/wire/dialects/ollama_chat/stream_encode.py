"""Chat streams from the pivot's events. It must not end a stream that did not end.

Source: Ollama's API documentation, `POST /api/chat` (official Python package 0.6, `ChatResponse`): JSON lines, the last
with `done: true`, the reason and the usage. A tool call is written once it is whole, because its arguments are an
object.
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
from ostiary.wire.conversation.members import with_rest
from ostiary.wire.conversation.parts import Part, Reasoning, Refusal, Text, ToolCall, UnknownPart
from ostiary.wire.conversation.reply import Finish
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind, Rest, inexpressible, losses_of
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.ollama_chat.faults import encode_fault_event, truncated
from ostiary.wire.dialects.ollama_chat.parts import CONTENT, DIALECT, IMAGES, THINKING, TOOL_CALLS, encode_image
from ostiary.wire.dialects.ollama_chat.reply import (
    CALL,
    PICTURE,
    THOUGHT,
    WORDS,
    encode_numbered,
    encode_scores,
    encode_usage,
    head_of,
    rank,
    word_of,
    words_lost,
)

# Ends of lines to Unicode, not to JSON: clients that split decoded text take them for ends.
_LINE_ENDS = ((b"\xc2\x85", rb"\u0085"), (b"\xe2\x80\xa8", rb"\u2028"), (b"\xe2\x80\xa9", rb"\u2029"))
_encode = msgspec.json.Encoder().encode


class StreamEncoder:
    """Writes one stream: events in, JSON lines out.

    `losses` grows by what could not be said.

    Args:
        answering: the names and time of the answer.
    """

    def __init__(self, answering: Answering) -> None:
        self.losses: list[Loss] = []
        self._head = head_of(answering)
        self._kinds: dict[int, int] = {}  # the parts begun, and their kinds
        self._calls: dict[int, ToolCall | UnknownPart] = {}  # those that are not written yet, in their order
        self._ended: set[int] = set()
        self._pieces: dict[int, list[str]] = {}
        self._written = self._rank = 0
        self._finish: Finish | None = None
        self._usage: Usage | None = None
        self._rest: list[Extra] = []  # for the last line
        self._failed = False

    def encode(self, event: Event) -> bytes:
        """The bytes for one event; often none.

        Raises:
            Fault: INVALID_REQUEST for content this dialect cannot say.
        """
        if self._failed:
            return b""
        match event:
            case PartDelta(0, index, text):
                return self._more(index, text)
            case PartStart(0, index, part):
                return self._start(index, part)
            case PartEnd(0, index, seal):
                if seal is not None:
                    self.losses.append(Loss(LossKind.SEAL, f"choices.0.parts.{index}"))
                self._ended.add(index)
                return self._whole_calls()
            case Cited(0, index):
                self.losses.append(Loss(LossKind.MARK, f"choices.0.parts.{index}.citations"))
            case Scored(0, scores):
                return self._line({CONTENT: ""}, logprobs=encode_scores(scores))
            case Aside(0 | None as choice, extra):
                return self._aside(choice, extra)
            case Metered(usage):
                self._usage = usage
            case Finished(0, finish):
                self._finish = finish
            case Failed():
                self._failed = True
                return encode_fault_event(event.to_fault())
            case Opened(tier=tier):
                self.losses += [Loss(LossKind.MARK, "tier")] if tier else []
            case _:
                raise inexpressible("choices.1")
        return b""

    def end(self) -> bytes:
        """The end of the stream; an error line where the answer has not finished."""
        if self._failed:
            return b""
        if self._finish is None:
            self._failed = True
            return encode_fault_event(truncated())
        self._ended |= self._calls.keys()
        late = self._whole_calls()
        used = encode_usage(self._usage) if self._usage is not None else {}
        word = word_of(self._finish, self.losses)
        return late + self._line({CONTENT: ""}, done=True, rest=tuple(self._rest), done_reason=word, **used)

    def _start(self, index: int, part: Part) -> bytes:
        where = f"choices.0.parts.{index}"
        kind = rank(part)
        again = kind in (THOUGHT, WORDS) and kind in self._kinds.values()
        if kind < self._rank or again:
            self.losses.append(Loss(LossKind.SHAPE, where))
        self._rank = max(self._rank, kind)
        self._kinds[index] = kind
        if kind == CALL and isinstance(part, (ToolCall, UnknownPart)):
            self._calls[index], self._pieces[index] = part, []
            return b""
        if kind == PICTURE:
            return self._line({CONTENT: "", IMAGES: [encode_image(part, where, self.losses)]})
        if isinstance(part, (Text, Reasoning, Refusal)):
            self.losses += words_lost(part, where)
            return self._more(index, part.text)
        return b""

    def _more(self, index: int, text: str) -> bytes:
        kind = self._kinds[index]
        if kind == CALL:
            self._pieces[index].append(text)
        if kind in (CALL, PICTURE) or not text:
            return b""
        return self._line({CONTENT: "", THINKING: text} if kind == THOUGHT else {CONTENT: text})

    def _whole_calls(self) -> bytes:
        """The calls that are whole now; one that is not holds up those after it."""
        lines = []
        while self._calls and (index := next(iter(self._calls))) in self._ended:
            call = self._calls.pop(index)
            if isinstance(call, ToolCall):
                call = msgspec.structs.replace(call, arguments=call.arguments + "".join(self._pieces.pop(index)))
            written = encode_numbered(call, self._written, f"choices.0.parts.{index}", self.losses)
            self._written += 1
            lines.append(self._line({CONTENT: "", TOOL_CALLS: [written]}))
        return b"".join(lines)

    def _aside(self, choice: int | None, extra: Extra) -> bytes:
        self.losses += losses_of((extra,), DIALECT, "" if choice is None else "choices.0")
        if extra.said_by == DIALECT:
            self._rest.append(extra)
        return b""

    def _line(self, message: dict[str, Any], *, done: bool = False, rest: Rest = (), **more: Any) -> bytes:
        document = {**self._head, "message": {"role": "assistant", **message}, "done": done, **more}
        line = _encode(with_rest(document, rest, DIALECT))
        if b"\n" in line:  # of arguments, or of a member kept as it came
            line = msgspec.json.format(line, indent=-1)
        for mark, escaped in _LINE_ENDS:
            line = line.replace(mark, escaped)
        return line + b"\n"
