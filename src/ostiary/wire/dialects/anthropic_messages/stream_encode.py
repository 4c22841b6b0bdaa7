"""Streams from the pivot's events. It must not end a stream that did not end.

Source: official Python SDK 2.12, `types.RawMessageStreamEvent`. One block is open at a time, and its number is one more
than that of the block before. The parts of other dialects may overlap; here

- words and reasoning end where another part begins. What comes for them later begins a block of the same kind, which is
  a loss of shape: to hold words back until the part before them ends would be to send nothing until all is said.
- a call cannot be continued, so what comes meanwhile waits for its end, or for the end of the answer.

Usage is known last, so the events that close a message are written at the end of the stream.
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
from ostiary.wire.conversation.parts import Citation, Part, Reasoning, Refusal, Seal, Text, ToolCall, UnknownPart
from ostiary.wire.conversation.reply import Finish
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind, inexpressible, losses_of
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.anthropic_messages.faults import encode_fault_event
from ostiary.wire.dialects.anthropic_messages.parts import CONTENT, DIALECT
from ostiary.wire.dialects.anthropic_messages.reply import (
    EVENT,
    ahead,
    encode_citations,
    encode_finish,
    encode_said,
    head_of,
    put_tier,
    written_proof,
)
from ostiary.wire.dialects.anthropic_messages.usage import encode_usage, truncated

# Members of the last event that stand beside its delta (SDK 2.12, `types.beta.BetaRawMessageDeltaEvent`).
_BESIDE = frozenset({"context_management", "input_transformations", "usage"})
_encode = msgspec.json.Encoder().encode


class _Block:
    """A part on its way: waiting, open or closed. `waiting` is what came for it before it was opened."""

    def __init__(self, index: int, part: Part) -> None:
        self.index = index
        self.part = part
        self.seal: Seal | None = getattr(part, "seal", None)
        self.told: Seal | None = None  # the proof as far as it is written
        self.waiting: list[str | Citation] = []
        self.ended = False
        self.closed = False

    @property
    def continuable(self) -> bool:
        return isinstance(self.part, (Text, Reasoning, Refusal))


class StreamEncoder:
    """Writes one stream: events in, server-sent events out.

    `losses` grows by what could not be said.

    Args:
        answering: the names of the answer.
    """

    def __init__(self, answering: Answering) -> None:
        self.losses: list[Loss] = []
        self._head = head_of(answering)
        self._begun = False
        self._failed = False
        self._finish: Finish | None = None
        self._usage: Usage | None = None
        self._tier = self._tier_told = ""
        self._rest: dict[tuple[str, ...], Extra] = {}
        self._blocks: dict[int, _Block] = {}
        self._open: _Block | None = None
        self._queue: list[_Block] = []
        self._number = -1

    def encode(self, event: Event) -> bytes:
        """The bytes for one event; often none.

        Raises:
            Fault: INVALID_REQUEST for content this dialect cannot say.
        """
        if self._failed:
            return b""
        match event:
            case PartDelta(_, index, text) if self._open is not None and self._open.index == index:
                return self._more(self._open, text)
            case Failed():
                self._failed = True
                return encode_fault_event(event.to_fault())
            case Metered(usage):
                self._usage = usage
            case Opened(tier=tier):
                self._tier = tier or self._tier
        opening = b"" if self._begun else self._opening()
        return opening + self._said(event)

    def end(self) -> bytes:
        """The end of the stream; an error event where the answer has not finished."""
        if self._failed:
            return b""
        if self._finish is None:
            self._failed = True
            return encode_fault_event(truncated())
        usage = encode_usage(self._usage)
        if self._tier != self._tier_told:
            put_tier(usage, self._tier, self.losses)
        document: dict[str, Any] = {"type": "message_delta", "delta": encode_finish(self._finish), "usage": usage}
        for extra in self._rest.values():
            place = document if extra.path[0] in _BESIDE else document["delta"]
            with_rest(place, (extra,), DIALECT)
        return self._close_all() + _event(document) + _event({"type": "message_stop"})

    def _opening(self) -> bytes:
        self._begun = True
        usage = {**encode_usage(self._usage), "output_tokens": 0}
        usage.pop("output_tokens_details", None)
        put_tier(usage, self._tier, self.losses)
        self._tier_told = self._tier
        message = {**self._head, CONTENT: [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        return _event({"type": "message_start", "message": message})

    def _said(self, event: Event) -> bytes:
        match event:
            case PartStart(choice, index, part):
                if choice:
                    raise inexpressible(f"choices.{choice}")
                block = self._blocks[index] = _Block(index, part)
                return self._place(block)
            case PartDelta(_, index, text):
                return self._add(index, text)
            case Cited(_, index, citation):
                return self._add(index, citation)
            case PartEnd(_, index, seal):
                return self._end(self._blocks[index], seal)
            case Finished(_, finish):
                self._finish = finish
                return self._close_all()
            case Scored(choice):
                loss = Loss(LossKind.UNKNOWN, f"choices.{choice}.scores")
                self.losses += [loss] if loss not in self.losses else []
            case Aside(choice, extra):
                return self._aside(choice, extra)
        return b""

    def _place(self, block: _Block) -> bytes:
        """Open a block, or let it wait."""
        if isinstance(block.part, Reasoning) and block.part.hidden and block.seal is None and not block.ended:
            return b""  # it is nothing but its proof, which comes at its end
        closing = b""
        if self._open is not None and self._open.continuable:
            closing = self._close() + self._drain()
        if self._open is not None:
            self._queue.append(block)
            return closing
        return closing + self._begin(block) + self._drain()

    def _add(self, index: int, piece: str | Citation) -> bytes:
        """A piece of a part that may be open, waiting, or closed already."""
        block = self._blocks[index]
        if block is self._open:
            return self._piece(block, piece)
        if not block.closed:
            block.waiting.append(piece)
            return b""
        if not block.continuable:
            raise inexpressible(_where(block))
        self.losses.append(Loss(LossKind.SHAPE, _where(block)))
        fresh: Part = Text("")
        if isinstance(block.part, Reasoning):
            fresh = Reasoning("")
        elif isinstance(block.part, Refusal):
            fresh = Refusal("")
        self._blocks[index] = more = _Block(index, fresh)
        more.waiting.append(piece)
        return self._place(more)

    def _end(self, block: _Block, seal: Seal | None) -> bytes:
        block.ended, block.seal = True, seal or block.seal
        if block is self._open:
            return self._close() + self._drain()
        if not block.closed:
            waits = any(block is other for other in self._queue)
            return b"" if waits or block.seal is None else self._place(block)
        if block.seal is None or block.seal == block.told:
            return b""
        return self._place(self._late(block, block.seal))

    def _late(self, block: _Block, seal: Seal) -> _Block:
        """The proof of a part that was closed before it came, as a part of its own."""
        self.losses.append(Loss(LossKind.SHAPE, _where(block)))
        proof = _Block(block.index, Reasoning("", seal, hidden=not isinstance(block.part, Reasoning)))
        proof.ended = True
        return proof

    def _begin(self, block: _Block) -> bytes:
        """Open a block and write what waited for it; close it where no more will come."""
        part = block.part
        where = _where(block)
        data = b""
        self._open = block
        if isinstance(part, (UnknownPart, Reasoning)) and (not isinstance(part, Reasoning) or part.hidden):
            sealed = part if isinstance(part, UnknownPart) else msgspec.structs.replace(part, seal=block.seal)
            for document in encode_said(sealed, where, self.losses):
                data += self._whole(document)
            block.closed, block.told, self._open = True, block.seal, None
            return data
        if isinstance(part, (Text, ToolCall)) and block.seal is not None:
            data += self._whole(ahead(block.seal))
            block.told = block.seal
        data += self._start(part, where)
        first = part.arguments if isinstance(part, ToolCall) else getattr(part, "text", "")
        pieces: list[str | Citation] = [first] if first else []
        pieces += part.citations if isinstance(part, Text) else ()
        for piece in [*pieces, *block.waiting]:
            data += self._piece(block, piece)
        block.waiting = []
        if block.ended or (self._queue and block.continuable):
            data += self._close()
        return data

    def _start(self, part: Part, where: str) -> bytes:
        """The event that begins a growing block; it is empty yet."""
        match part:
            case ToolCall():
                empty: Part = msgspec.structs.replace(part, arguments="", seal=None)
            case Text():
                empty = msgspec.structs.replace(part, text="", citations=(), seal=None)
            case Reasoning():
                empty = msgspec.structs.replace(part, text="", seal=None)
            case Refusal():
                empty = msgspec.structs.replace(part, text="")
            case _:
                raise inexpressible(where)
        (document,) = encode_said(empty, where, self.losses)
        if isinstance(empty, Reasoning):
            document["signature"] = ""  # it comes at the end
        return self._block_start(document)

    def _block_start(self, document: Any) -> bytes:
        self._number += 1
        return _event({"type": "content_block_start", "index": self._number, "content_block": document})

    def _whole(self, document: Any) -> bytes:
        return self._block_start(document) + _event({"type": "content_block_stop", "index": self._number})

    def _piece(self, block: _Block, piece: str | Citation) -> bytes:
        if isinstance(piece, str):
            return self._more(block, piece)
        told = encode_citations((piece,), _where(block), self.losses)
        return b"".join(self._delta({"type": "citations_delta", "citation": citation}) for citation in told)

    def _more(self, block: _Block, text: str) -> bytes:
        match block.part:
            case ToolCall():
                return self._delta({"type": "input_json_delta", "partial_json": text})
            case Reasoning():
                return self._delta({"type": "thinking_delta", "thinking": text})
        return self._delta({"type": "text_delta", "text": text})

    def _delta(self, delta: Any) -> bytes:
        return _event({"type": "content_block_delta", "index": self._number, "delta": delta})

    def _close(self) -> bytes:
        """End the open block; it may be sealed only now."""
        block, data = self._open, b""
        assert block is not None
        if isinstance(block.part, Reasoning):
            data = self._delta({"type": "signature_delta", "signature": written_proof(block.seal)})
            block.told = block.seal
        data += _event({"type": "content_block_stop", "index": self._number})
        block.closed, self._open = True, None
        if block.seal is not None and block.seal != block.told:
            self._queue.insert(0, self._late(block, block.seal))
        return data

    def _drain(self) -> bytes:
        """Open the blocks that wait, as long as none is open."""
        data = b""
        while self._queue and self._open is None:
            data += self._begin(self._queue.pop(0))
        return data

    def _close_all(self) -> bytes:
        data = self._drain()
        while self._open is not None:
            data += self._close() + self._drain()
        return data

    def _aside(self, choice: int | None, extra: Extra) -> bytes:
        where = "" if choice is None else f"choices.{choice}"
        self.losses += losses_of((extra,), DIALECT, where)
        if extra.said_by != DIALECT:
            return b""
        if choice is None and extra.path[0] == EVENT:
            return b"event: " + extra.path[1].encode() + b"\ndata: " + _one_line(bytes(extra.value)) + b"\n\n"
        if choice is not None and extra.path[0] == CONTENT:
            if self._open is not None:
                return self._delta(extra.value)
            self.losses.append(Loss(LossKind.UNKNOWN, ".".join((where, *extra.path))))
            return b""
        self._rest[extra.path] = extra
        return b""


def _where(block: _Block) -> str:
    return f"choices.0.parts.{block.index}"


def _one_line(data: bytes) -> bytes:
    """JSON without line ends, which stand only between its tokens."""
    return data.replace(b"\r", b" ").replace(b"\n", b" ") if b"\n" in data or b"\r" in data else data


def _event(document: dict[str, Any]) -> bytes:
    kind: str = document["type"]
    return b"event: " + kind.encode() + b"\ndata: " + _one_line(_encode(document)) + b"\n\n"
