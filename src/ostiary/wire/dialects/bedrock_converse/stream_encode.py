"""Streams from the pivot's events. It must not end a stream that did not end.

Source: botocore 1.44, `bedrock-runtime` 2023-09-30: ConverseStreamOutput. Blocks follow each other, numbered from 0;
those of text and of reasoning have no start. `messageStop` waits for the end of the stream, for a failure may still
come after the end of the choice; `metadata` is last.

The parts of the pivot may overlap. Text ends where another part starts; what is said of it later is a new block. A tool
call that starts before another has ended waits for it.
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
from ostiary.wire.conversation.parts import Image, Inline, Part, Reasoning, Refusal, Seal, Text, ToolCall, UnknownPart
from ostiary.wire.conversation.reply import Finish
from ostiary.wire.conversation.unknown import Extra, Loss, LossKind, inexpressible, losses_of
from ostiary.wire.dialect import Answering
from ostiary.wire.dialects.bedrock_converse.citations import encode_citation
from ostiary.wire.dialects.bedrock_converse.faults import encode_fault_event, truncated
from ostiary.wire.dialects.bedrock_converse.media import DIALECT, IMAGE, Names, encode_media
from ostiary.wire.dialects.bedrock_converse.messages import redacted
from ostiary.wire.dialects.bedrock_converse.parts import REASONING, encode_call
from ostiary.wire.dialects.bedrock_converse.reply import FIELDS, encode_usage, ending, proof_of
from ostiary.wire.framing.event_stream import write_message

_encode = msgspec.json.Encoder().encode


def write_event(name: str, document: dict[str, Any]) -> bytes:
    """One event, framed."""
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return write_message(headers, _encode(document))


# `write_event("initial-response", {})`: what botocore takes for the answer to nothing it asked, and passes over.
PING = (
    b"\x00\x00\x00h\x00\x00\x00VNh\x17$"
    b"\x0b:event-type\x07\x00\x10initial-response"
    b"\r:content-type\x07\x00\x10application/json"
    b"\r:message-type\x07\x00\x05event"
    b"{}"
    b"\xd5\x91\xc6+"
)


class StreamEncoder:
    """Writes one stream: events in, messages of an event stream out.

    `losses` grows by what could not be said.
    """

    def __init__(self, answering: Answering) -> None:  # noqa: ARG002  # an answer here has no names
        self.losses: list[Loss] = []
        self._asides: dict[tuple[str, ...], Extra] = {}
        self._usage: Usage | None = None
        self._tier = ""
        self._begun = self._failed = False
        self._finish: Finish | None = None
        self._next = 0  # the number of the next block
        self._open: _Open | None = None
        self._closed: dict[int, type[Part]] = {}  # parts that have ended early, by their index
        self._waiting: list[tuple[int, Event]] = []  # of parts that start later, by their index

    def encode(self, event: Event) -> bytes:
        """The bytes for one event; often none.

        Raises:
            Fault: INVALID_REQUEST for content this dialect cannot say.
        """
        if self._failed:
            return b""
        match event:
            case Failed():
                self._failed = True
                return encode_fault_event(event.to_fault())
            case Metered(usage):
                self._usage = usage
            case Opened(tier=tier):
                self._tier = tier or self._tier
                return self._beginning()
            case Aside(choice, extra):
                self.losses += losses_of((extra,), DIALECT, "" if choice is None else f"choices.{choice}")
                if extra.said_by == DIALECT:
                    self._asides[extra.path] = extra
            case Scored():
                if not any(loss.where == "choices.0.scores" for loss in self.losses):
                    self.losses.append(Loss(LossKind.KNOB, "choices.0.scores"))
            case _ if event.choice > 0:
                raise inexpressible(f"choices.{event.choice}")
            case Finished(_, finish):
                self._finish = finish
                return self._beginning() + self._end_all()
            case _:
                return self._beginning() + self._part(event)
        return b""

    def end(self) -> bytes:
        """The end of the stream; an error where the answer has not finished."""
        if self._failed:
            return b""
        if self._finish is None:
            self._failed = True
            return encode_fault_event(truncated())
        stop = self._stop(self._finish)
        document: dict[str, Any] = {"usage": encode_usage(self._usage)}
        if self._tier:
            document["serviceTier"] = {"type": self._tier}
        with_rest(document, tuple(self._asides.values()), DIALECT)
        document.setdefault("metrics", {}).setdefault("latencyMs", 0)
        return stop + write_event("metadata", document)

    def _beginning(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return write_event("messageStart", {"role": "assistant"})

    def _stop(self, finish: Finish) -> bytes:
        document = ending(finish)
        fields = tuple(extra for path, extra in self._asides.items() if path[0] == FIELDS)
        for extra in fields:
            del self._asides[extra.path]
        return write_event("messageStop", with_rest(document, fields, DIALECT))

    def _part(self, event: PartStart | PartDelta | PartEnd | Cited) -> bytes:
        """An event of a part: now, or when the call before it has ended."""
        index = event.index
        if any(index == waiting for waiting, _ in self._waiting) or (isinstance(event, PartStart) and self._in_call()):
            self._waiting.append((index, event))
            return b""
        match event:
            case PartStart(_, _, part):
                return self._close() + self._start(index, part)
            case PartDelta(_, _, text):
                return self._reopen(index) + self._more(text)
            case Cited(_, _, citation):
                return self._reopen(index) + self._cite(encode_citation(citation, _where(index), self.losses))
            case PartEnd(_, _, seal):
                return self._part_end(index, seal)

    def _in_call(self) -> bool:
        return self._open is not None and self._open.kind is ToolCall

    def _part_end(self, index: int, seal: Seal | None) -> bytes:
        if self._open is None or self._open.index != index:
            self._lose(seal, index)
            return b""
        if self._open.kind is Reasoning:
            self._open.seal = seal or self._open.seal
        else:
            self._lose(seal, index)
        return self._close() + self._release()

    def _lose(self, seal: Seal | None, index: int) -> None:
        if seal is not None:
            self.losses.append(Loss(LossKind.SEAL, _where(index)))

    def _release(self) -> bytes:
        """What had to wait for a call, up to the next call that has not ended."""
        waiting, self._waiting = self._waiting, []
        # A part whose start waits has all its events waiting; one after another keeps blocks from overlapping.
        order = {index: place for place, index in enumerate(dict.fromkeys(index for index, _ in waiting))}
        waiting.sort(key=lambda item: order[item[0]])
        said = b""
        for _, event in waiting:
            if isinstance(event, (PartStart, PartDelta, PartEnd, Cited)):
                said += self._part(event)
        return said

    def _end_all(self) -> bytes:
        """The end of all blocks, those that waited included."""
        said = self._close()
        while self._waiting:
            said += self._release() + self._close()
        return said

    def _start(self, index: int, part: Part) -> bytes:
        where = _where(index)
        match part:
            case Text(text, seal=seal):
                self.losses += losses_of(part.rest, DIALECT, where)
                said = self._ahead(seal)
                self._open = _Open(index, Text)
                cited = [encode_citation(citation, where, self.losses) for citation in part.citations]
                return said + self._more(text) + b"".join(map(self._cite, cited))
            case Refusal(text):
                self.losses += [Loss(LossKind.MARK, where), *losses_of(part.rest, DIALECT, where)]
                self._open = _Open(index, Text)
                return self._more(text)
            case Reasoning(text):
                self.losses += losses_of(part.rest, DIALECT, where)
                if part.hidden and part.seal is not None:
                    return self._whole({"delta": {REASONING: {"redactedContent": redacted(part.seal)}}})
                self._open = _Open(index, Reasoning, part.seal, hidden=part.hidden)
                return self._more(text)
            case ToolCall(arguments=arguments, free=False):
                said = self._ahead(part.seal)
                start = encode_call(part, None, where, self.losses)
                start["toolUse"].pop("input")
                self._open = _Open(index, ToolCall)
                return said + self._event("contentBlockStart", {"start": start}) + self._more(arguments)
            case Image(Inline()):
                return self._whole(*_halves(IMAGE, encode_media(part, Names(), where, self.losses)[IMAGE], "source"))
            case UnknownPart(said_by=said_by) if said_by == DIALECT:
                return self._unknown(part.value, where)
        raise inexpressible(where)

    def _unknown(self, raw: msgspec.Raw, where: str) -> bytes:
        """A call or a result of a provider's own tool, as its start and its only delta."""
        try:
            block = msgspec.json.decode(raw, type=dict[str, Any])
        except msgspec.DecodeError:
            raise inexpressible(where) from None
        for kind, member in (("toolUse", "input"), ("toolResult", "content")):
            said = block.get(kind)
            if len(block) == 1 and isinstance(said, dict) and member in said:
                more = said[member]
                if kind == "toolUse":
                    said[member] = more if isinstance(more, str) else _encode(more).decode()
                start, delta = _halves(kind, said, member)
                if kind == "toolResult":
                    delta = {"delta": {kind: said[member]}}
                return self._whole(start, delta)
        raise inexpressible(where)

    def _ahead(self, seal: Seal | None) -> bytes:
        """The block that carries a proof for the block that follows."""
        if seal is None:
            return b""
        return self._whole({"delta": {REASONING: {"redactedContent": redacted(seal, ahead=True)}}})

    def _whole(self, *documents: dict[str, Any]) -> bytes:
        """A block that is told at once."""
        events = [
            self._event("contentBlockStart" if "start" in document else "contentBlockDelta", document)
            for document in documents
        ]
        return b"".join(events) + self._end_block()

    def _reopen(self, index: int) -> bytes:
        """The start of another block for a part whose block has ended; nothing where it is open."""
        if self._open is not None and self._open.index == index:
            return b""
        kind = self._closed.get(index, Text)
        if kind is ToolCall:
            raise inexpressible(_where(index))
        self.losses.append(Loss(LossKind.SHAPE, _where(index)))
        said = self._end_all()
        self._open = _Open(index, kind)
        return said

    def _more(self, text: str) -> bytes:
        block = self._open
        if not text or block is None:
            return b""
        block.said = True
        if block.kind is ToolCall:
            return self._delta({"toolUse": {"input": text}})
        return self._delta({REASONING: {"text": text}} if block.kind is Reasoning else {"text": text})

    def _cite(self, citation: dict[str, Any]) -> bytes:
        if self._open is not None:
            self._open.said = True
        return self._delta({"citation": citation})

    def _close(self) -> bytes:
        """The end of the block that is open."""
        block, self._open = self._open, None
        if block is None:
            return b""
        self._closed[block.index] = block.kind
        said = b""
        if block.kind is ToolCall and not block.said:
            said = self._delta({"toolUse": {"input": "{}"}})
        elif block.seal is not None and block.hidden and not block.said:
            said = self._delta({REASONING: {"redactedContent": redacted(block.seal)}})
        elif block.seal is not None:
            said = self._delta({REASONING: {"signature": proof_of(Reasoning("", block.seal))}})
        elif not block.said:
            return b""  # it has not begun
        return said + self._end_block()

    def _end_block(self) -> bytes:
        said = self._event("contentBlockStop", {})
        self._next += 1
        return said

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return self._event("contentBlockDelta", {"delta": delta})

    def _event(self, name: str, document: dict[str, Any]) -> bytes:
        return write_event(name, {**document, "contentBlockIndex": self._next})


class _Open:
    """The block that is being told; `said`: something of it has been written."""

    def __init__(self, index: int, kind: type[Part], seal: Seal | None = None, *, hidden: bool = False) -> None:
        self.index = index
        self.kind = kind
        self.seal = seal
        self.hidden = hidden
        self.said = False


def _where(index: int) -> str:
    return f"choices.0.parts.{index}"


def _halves(kind: str, block: dict[str, Any], member: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A block as its start and a delta of one of its members."""
    start = {name: value for name, value in block.items() if name != member}
    return {"start": {kind: start}}, {"delta": {kind: {member: block[member]}}}
