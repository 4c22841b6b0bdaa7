"""Chat streams from the pivot's events. It must not end a stream that did not end.

Source: OpenAI API reference, the chat completion chunk (official Python SDK 3.54, `ChatCompletionChunk`). Where
`stream_options.include_usage` is set, `usage` is null in every chunk but one: the last before `[DONE]`, whose `choices`
are empty.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostiary.core.usage import Usage
from ostiary.wire.conversation.events import (
    Aside,
    Event,
    Failed,
    Finished,
    Metered,
    PartDelta,
    PartEnd,
    PartStart,
)
from ostiary.wire.conversation.members import with_rest
from ostiary.wire.conversation.parts import Part, Reasoning, Refusal, Text, ToolCall, UnknownPart
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind, Rest, inexpressible, losses_of
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.openai_chat.faults import encode_fault_event
from ostiary.wire.dialects.openai_chat.parts import (
    ARGUMENTS,
    CONTENT,
    DIALECT,
    TOOL_CALLS,
    encode_call,
    encode_part,
    is_call,
)
from ostiary.wire.dialects.openai_chat.reply import (
    CALL,
    MEMBERS,
    encode_usage,
    head_of,
    rank,
    truncated,
    word_of,
)

_encode = msgspec.json.Encoder().encode


class StreamEncoder:
    """Writes one stream: events in, server-sent events out.

    `losses` grows by what could not be said.

    Args:
        answering: the names and time of the answer, and the request: it may ask for usage.
    """

    def __init__(self, answering: Answering) -> None:
        self.losses: list[Loss] = []
        self._frame = head_of(answering, "chat.completion.chunk")
        self._include_usage = answering.asked.stream_usage is True
        self._rest: dict[tuple[str, ...], Extra] = {}
        self._usage: Usage | None = None
        self._finished: dict[int, bool] = {}
        # (choice, part) -> the part's kind, and for a call its number and kind of tool
        self._growing: dict[tuple[int, int], tuple[int, int, str]] = {}
        self._calls: dict[int, int] = {}
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
                return self._more(choice, *self._growing[choice, index], text)
            case PartStart(choice, index, part):
                return self._start(choice, index, part)
            case PartEnd(choice, index, seal) if seal is not None:
                self.losses.append(Loss(LossKind.SEAL, f"choices.{choice}.parts.{index}"))
            case Aside(choice, extra):
                return self._aside(choice, extra)
            case Metered(usage):
                self._usage = usage
            case Finished(choice, finish):
                opening = self._opening(choice)
                self._finished[choice] = True
                return opening + self._choice(choice, {}, word_of(finish))
            case Failed():
                self._failed = True
                return encode_fault_event(event.to_fault())
        return b""

    def end(self) -> bytes:
        """The end of the stream; an error event where a choice has not finished."""
        if self._failed:
            return b""
        if not all(self._finished.values()):
            self._failed = True
            return encode_fault_event(truncated())
        last = b""
        if self._include_usage and self._usage is not None:
            last = self._chunk([], encode_usage(self._usage))
        return last + b"data: [DONE]\n\n"

    def _start(self, choice: int, index: int, part: Part) -> bytes:
        where = f"choices.{choice}.parts.{index}"
        kind = rank(part)
        opening = self._opening(choice)
        if isinstance(part, (ToolCall, UnknownPart)):
            if is_call(part):
                number = self._calls.setdefault(choice, 0)
                self._calls[choice] += 1
                tool = "custom" if isinstance(part, ToolCall) and part.free else "function"
                self._growing[choice, index] = (CALL, number, tool)
                call = encode_call(part, where, self.losses)
                called = {"index": number, **call} if isinstance(call, dict) else call
                return opening + self._choice(choice, {TOOL_CALLS: [called]})
            return opening + self._choice(choice, {CONTENT: [encode_part(part, where, self.losses)]})
        if not isinstance(part, (Text, Reasoning, Refusal)):
            raise inexpressible(where)
        self.losses += losses_of(part.rest, DIALECT, where)
        if any(of == choice and told[0] == kind for (of, _), told in self._growing.items()):
            self.losses.append(Loss(LossKind.SHAPE, where))
        self._growing[choice, index] = (kind, 0, "")
        return opening + (self._more(choice, kind, 0, "", part.text) if part.text else b"")

    def _more(self, choice: int, kind: int, number: int, tool: str, text: str) -> bytes:
        if kind != CALL:
            return self._choice(choice, {MEMBERS[kind]: text})
        return self._choice(choice, {TOOL_CALLS: [{"index": number, tool: {ARGUMENTS[tool]: text}}]})

    def _aside(self, choice: int | None, extra: Extra) -> bytes:
        where = "" if choice is None else f"choices.{choice}"
        self.losses += losses_of((extra,), DIALECT, where)
        if extra.said_by != DIALECT:
            return b""
        if choice is None:
            self._rest[extra.path] = extra  # stands in every chunk from now on
            return b""
        if extra.path[0] == "message":
            extra = msgspec.structs.replace(extra, path=("delta", *extra.path[1:]))
        return self._opening(choice) + self._choice(choice, {}, rest=(extra,))

    def _opening(self, choice: int) -> bytes:
        """The chunk that begins a choice, where it has not begun."""
        if choice in self._finished:
            return b""
        self._finished[choice] = False
        return self._choice(choice, {"role": "assistant", CONTENT: ""})

    def _choice(self, index: int, delta: dict[str, Any], finish: str | None = None, rest: Rest = ()) -> bytes:
        choice = with_rest({"index": index, "delta": delta, "finish_reason": finish}, rest, DIALECT)
        choice.setdefault("logprobs", None)
        return self._chunk([choice], None)

    def _chunk(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> bytes:
        document: dict[str, Any] = {**self._frame, "choices": choices}
        if self._include_usage:
            document["usage"] = usage
        return b"data: " + _encode(with_rest(document, tuple(self._rest.values()), DIALECT)) + b"\n\n"
