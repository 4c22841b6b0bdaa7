"""Chat streams from the pivot's events. It must not end a stream that did not end.

Source: OpenAI API reference, the chat completion chunk (official Python SDK 3.54, `ChatCompletionChunk`). Where
`stream_options.include_usage` is set, `usage` is null in every chunk but one: the last before `[DONE]`, whose `choices`
are empty. Items of lists that are no strings carry an `index`: by it the official SDK joins them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

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
from ostiary.wire.conversation.parts import Citation, Part, Reasoning, Refusal, Seal, Text, ToolCall, UnknownPart
from ostiary.wire.conversation.reply import Score
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind, Rest, inexpressible, losses_of
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.openai_chat.citations import ANNOTATIONS
from ostiary.wire.dialects.openai_chat.faults import encode_fault_event
from ostiary.wire.dialects.openai_chat.parts import (
    ARGUMENTS,
    CONTENT,
    IMAGES,
    TOOL_CALLS,
    encode_call,
    encode_part,
    is_call,
)
from ostiary.wire.dialects.openai_chat.proofs import BLOCKS, encode_block, extra_content, needs_block
from ostiary.wire.dialects.openai_chat.reply import (
    CALL,
    MEMBERS,
    PICTURE,
    REASONING,
    TEXT,
    annotations_of,
    encode_usage,
    head_of,
    losses_at_end,
    rank,
    truncated,
    word_of,
)
from ostiary.wire.dialects.openai_chat.scores import encode_scores
from ostiary.wire.dialects.openai_chat.values import DIALECT
from ostiary.wire.framing.sse import sse_event

_encode = msgspec.json.Encoder().encode


class _Thought(NamedTuple):
    """Reasoning that is being told."""

    part: Reasoning
    pieces: list[str]


class _Span(NamedTuple):
    """A text: the characters said before it, and its proof where it is known from the start."""

    before: int
    seal: Seal | None


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
        self._numbers: dict[tuple[int, str], int] = {}  # (choice, member) -> how many items its list has
        self._thoughts: dict[tuple[int, int], _Thought] = {}  # (choice, part) -> what is open
        self._bare: dict[int, Reasoning] = {}  # by choice: ended, and not yet told as a block
        self._spoken: dict[int, int] = {}  # by choice: the characters said
        self._texts: dict[tuple[int, int], _Span] = {}
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
                self._note(choice, index, text)
                return self._more(choice, *self._growing[choice, index], text)
            case PartStart(choice, index, part):
                return self._start(choice, index, part)
            case PartEnd(choice, index, seal):
                return self._end_part(choice, index, seal)
            case Cited(choice, index, citation):
                return self._cited(choice, index, (citation,))
            case Scored(choice, scores):
                return self._opening(choice) + self._choice(choice, {}, scores=scores)
            case Opened(tier=tier) if tier:
                self._frame["service_tier"] = tier
            case Aside(choice, extra):
                return self._aside(choice, extra)
            case Metered(usage):
                self._usage = usage
            case Finished(choice, finish):
                opening = self._opening(choice)
                self._finished[choice] = True
                self.losses += losses_at_end(finish, f"choices.{choice}")
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
        if isinstance(part, (ToolCall, UnknownPart)) and is_call(part):
            number = self._number(choice, TOOL_CALLS)
            tool = "custom" if isinstance(part, ToolCall) and part.free else "function"
            self._growing[choice, index] = (CALL, number, tool)
            call = encode_call(part, where, self.losses)
            called = {"index": number, **call} if isinstance(call, dict) else call
            return opening + self._choice(choice, {TOOL_CALLS: [called]})
        if kind == PICTURE:
            number, picture = self._number(choice, IMAGES), encode_part(part, where, self.losses)
            picture = {**picture, "index": number} if isinstance(picture, dict) else picture
            return opening + self._choice(choice, {IMAGES: [picture]})
        if isinstance(part, UnknownPart):
            return opening + self._choice(choice, {CONTENT: [encode_part(part, where, self.losses)]})
        if not isinstance(part, (Text, Reasoning, Refusal)):
            raise inexpressible(where)
        self.losses += losses_of(part.rest, DIALECT, where)
        if self._is_shapeless(choice, kind):
            self.losses.append(Loss(LossKind.SHAPE, where))
        self._growing[choice, index] = (kind, 0, "")
        if isinstance(part, Reasoning):
            opening += self._blocks(choice)
            self._thoughts[choice, index] = _Thought(part, [])
        elif isinstance(part, Text):
            self._texts[choice, index] = _Span(self._spoken.get(choice, 0), part.seal)
        self._note(choice, index, part.text)
        told = opening + (self._more(choice, kind, 0, "", part.text) if part.text else b"")
        return told + self._cited(choice, index, part.citations) if isinstance(part, Text) else told

    def _is_shapeless(self, choice: int, kind: int) -> bool:
        """Whether a part that begins now runs into another."""
        if kind == REASONING:
            return any(of == choice for of, _ in self._thoughts)
        return any(of == choice and told[0] == kind for (of, _), told in self._growing.items())

    def _note(self, choice: int, index: int, text: str) -> None:
        """Remember what of a text is needed later."""
        thought = self._thoughts.get((choice, index))
        if thought is not None:
            thought.pieces.append(text)
        elif (choice, index) in self._texts:
            self._spoken[choice] = self._spoken.get(choice, 0) + len(text)

    def _number(self, choice: int, member: str) -> int:
        """The place of the next item of a list."""
        number = self._numbers.get((choice, member), 0)
        self._numbers[choice, member] = number + 1
        return number

    def _cited(self, choice: int, index: int, citations: Sequence[Citation]) -> bytes:
        if not citations:
            return b""
        before = self._texts[choice, index].before
        length = self._spoken.get(choice, 0) - before
        where = f"choices.{choice}.parts.{index}"
        items = annotations_of(citations, before, length, where, self.losses)
        said = [{"index": self._number(choice, ANNOTATIONS), **item} for item in items]
        return self._choice(choice, {ANNOTATIONS: said}) if said else b""

    def _end_part(self, choice: int, index: int, seal: Seal | None) -> bytes:
        """What can be said of a part only now: its proof."""
        thought = self._thoughts.pop((choice, index), None)
        if thought is not None:
            proof = seal or thought.part.seal
            whole = msgspec.structs.replace(thought.part, text="".join(thought.pieces), seal=proof)
            if not needs_block(whole) and (choice, BLOCKS) not in self._numbers:
                self._bare[choice] = whole
                return b""
            return self._blocks(choice, whole)
        kind, number, tool = self._growing.get((choice, index), (None, 0, ""))
        if kind == TEXT:
            proof = seal or self._texts[choice, index].seal
            return self._choice(choice, extra_content(proof)) if proof is not None else b""
        if seal is not None and kind == CALL:
            nothing = {tool: {ARGUMENTS[tool]: ""}}  # the official SDK relies on the member
            return self._choice(choice, {TOOL_CALLS: [{"index": number, **nothing, **extra_content(seal)}]})
        if seal is not None:
            self.losses.append(Loss(LossKind.SEAL, f"choices.{choice}.parts.{index}"))
        return b""

    def _blocks(self, choice: int, *thoughts: Reasoning) -> bytes:
        """Thinking blocks, and before them one for what has been thought without."""
        bare = self._bare.pop(choice, None)
        told = [thought for thought in (bare, *thoughts) if thought is not None]
        items = [{"index": self._number(choice, BLOCKS), **encode_block(thought)} for thought in told]
        return b"".join(self._choice(choice, {BLOCKS: [item]}) for item in items)

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

    def _choice(
        self,
        index: int,
        delta: dict[str, Any],
        finish: str | None = None,
        rest: Rest = (),
        scores: Sequence[Score] = (),
    ) -> bytes:
        choice = with_rest({"index": index, "delta": delta, "finish_reason": finish}, rest, DIALECT)
        choice.setdefault("logprobs", encode_scores(scores) if scores else None)
        return self._chunk([choice], None)

    def _chunk(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> bytes:
        document: dict[str, Any] = {**self._frame, "choices": choices}
        if self._include_usage:
            document["usage"] = usage
        return sse_event(_encode(with_rest(document, tuple(self._rest.values()), DIALECT)))
