"""Streams to the pivot's events. It must not take a truncated stream for a whole one.

Source: botocore 1.44, `bedrock-runtime` 2023-09-30: ConverseStreamOutput; a member of that union is a message whose
header `:event-type` is its name. The `p` of an event is padding. Text and reasoning come without a start; `metadata`
follows `messageStop` and is the last event, but an answer is whole without it.

What has no delta in the pivot (images, results and calls of the provider's own tools, kinds that are not known) is held
until its block ends and then told whole.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from ostiary.core.fault import Fault
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
)
from ostiary.wire.conversation.members import UNREADABLE, Members
from ostiary.wire.conversation.parts import Part, Reasoning, Seal, Text, ToolCall
from ostiary.wire.conversation.seals import carried
from ostiary.wire.dialects.bedrock_converse.citations import decode_citation
from ostiary.wire.dialects.bedrock_converse.faults import STREAM_STATUSES, bad_answer, decode_fault, truncated
from ostiary.wire.dialects.bedrock_converse.media import DIALECT, IMAGE, STRING
from ostiary.wire.dialects.bedrock_converse.parts import (
    CONTENT,
    INTEGER,
    RAW,
    REASONING,
    decode_block,
    hidden,
    opened,
    sealed_with,
)
from ostiary.wire.dialects.bedrock_converse.reply import finish_of, meaningful, readable, take_usage
from ostiary.wire.framing.event_stream import EventStreamFramer, Message

_MOST_BLOCKS = 1 << 20
_encode = msgspec.json.Encoder().encode
_dict = msgspec.json.Decoder(dict[str, Any]).decode


class StreamDecoder:
    """Reads one stream: bytes in any pieces in, events out."""

    def __init__(self) -> None:
        self._framer = EventStreamFramer()
        self._blocks: dict[int, _Block] = {}
        self._done: set[int] = set()  # blocks that have ended
        self._ahead: tuple[int, Seal] | None = None  # a proof for the part that comes next, and its block
        self._stopped = False
        self._measured = False
        self._failed = False

    @property
    def over(self) -> bool:
        """`metadata` has come after the end of the message, or a failure."""
        return self._ended()

    def _ended(self) -> bool:
        return self._failed or (self._stopped and self._measured)

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes."""
        if self._ended():
            return []
        events: list[Event] = []
        for message in self._framer.feed(data):
            try:
                events += self._message(message)
            except Fault as fault:
                events += self._fail(fault)
            if self._ended():
                return events
        if self._framer.fault is not None:
            events += self._fail(self._framer.fault)
        return events

    def finish(self) -> list[Event]:
        """The stream is over: `Failed` where it was cut. Call it once."""
        return [] if self._ended() or self._stopped else self._fail(truncated())

    def _fail(self, fault: Fault) -> list[Event]:
        self._failed = True
        return [Failed.of(fault)]

    def _message(self, message: Message) -> list[Event]:
        kind = message.headers.get(":message-type")
        if kind == "exception":
            status = STREAM_STATUSES.get(str(message.headers.get(":exception-type")), 502)
            raise decode_fault(status, message.payload)
        if kind != "event":
            raise decode_fault(502, message.payload)  # an error that is not of this service
        read = _EVENTS.get(str(message.headers.get(":event-type")))
        if read is None or (self._stopped and read is not StreamDecoder._metadata):
            return []  # one that nobody knows, or that comes after the end
        members = readable(message.payload)
        if members is None:
            raise bad_answer()
        members.take("p", RAW)
        return read(self, members)

    def _start(self, members: Members) -> list[Event]:
        members.take("role", STRING)
        return [Opened("", ""), *(Aside(None, extra) for extra in meaningful(members))]

    def _block(self, members: Members) -> _Block:
        """The block an event is about.

        Raises:
            Fault: BAD_ANSWER where it names none, or one that has ended.
        """
        index = members.take("contentBlockIndex", INTEGER)
        if index is None or not 0 <= index < _MOST_BLOCKS or index in self._done:
            raise bad_answer()
        return self._blocks.setdefault(index, _Block(index))

    def _block_start(self, members: Members) -> list[Event]:
        block, raw = self._block(members), members.take("start", RAW)
        start = Members.of(raw) if raw is not None else None
        if start is None or raw is None or block.held is not None:
            raise bad_answer()
        call = start.inside("toolUse")
        call_id, name = call.take("toolUseId", STRING), call.take("name", STRING)
        if call_id is not None and name is not None and "type" not in call:
            return self._begin(block, ToolCall(call_id, name, "", rest=start.rest(DIALECT)))
        block.hold(raw)
        return []

    def _block_delta(self, members: Members) -> list[Event]:
        block, raw = self._block(members), members.take("delta", RAW)
        delta = Members.of(raw) if raw is not None else None
        if delta is None or raw is None:
            raise bad_answer()
        if block.held is not None:
            block.hold(raw)
            return []
        text = delta.take("text", STRING)
        if text is not None:
            return self._grow(block, Text(""), text)
        more = delta.inside("toolUse").take("input", STRING)
        if more is not None:
            return self._grow(block, None, more)
        told = delta.inside(REASONING)
        thought, signature = told.take("text", STRING), told.take("signature", STRING)
        redacted = told.take("redactedContent", STRING)
        if redacted is not None:
            block.redacted.append(redacted)
            return []
        if thought is not None or signature is not None:
            block.signature += signature or ""
            return self._grow(block, Reasoning(""), thought or "")
        citation = delta.take("citation", RAW)
        if citation is not None:
            cited = Cited(0, block.index, decode_citation(citation))
            return [*self._grow(block, Text(""), ""), cited]
        if block.part is not None:
            raise bad_answer()
        block.hold(raw)
        return []

    def _grow(self, block: _Block, part: Part | None, text: str) -> list[Event]:
        """More text of a block that grows; `part` is what it is where it has not begun."""
        if block.redacted or (block.part is None and part is None):
            raise bad_answer()
        kind = ToolCall if part is None else type(part)
        events = self._begin(block, part) if block.part is None and part is not None else []
        if type(block.part) is not kind:
            raise bad_answer()
        block.grown = block.grown or bool(text)
        return [*events, PartDelta(0, block.index, text)] if text else events

    def _begin(self, block: _Block, part: Part) -> list[Event]:
        """The start of a part, sealed by what came before it."""
        if block.part is not None:
            raise bad_answer()
        events: list[Event] = []
        if self._ahead is not None:
            (place, seal), self._ahead = self._ahead, None
            sealed = sealed_with(part, seal)
            events = [] if sealed is not None else [PartStart(0, place, hidden(seal)), PartEnd(0, place)]
            part = part if sealed is None else sealed
        block.part = part
        return [*events, PartStart(0, block.index, part)]

    def _block_stop(self, members: Members) -> list[Event]:
        block = self._block(members)
        return self._end(block)

    def _end(self, block: _Block) -> list[Event]:
        index = block.index
        self._blocks.pop(index, None)
        self._done.add(index)
        if block.part is None and block.redacted:
            seal, ahead = opened(block.redacted_whole())
            if ahead and self._ahead is None:
                self._ahead = index, seal
                return []
            return [*self._begin(block, hidden(seal)), PartEnd(0, index)]
        if block.part is None:
            whole = block.whole()
            return [*self._begin(block, whole), PartEnd(0, index)] if whole is not None else []
        # A call without arguments is one with none: the whole answer says {}.
        late = [PartDelta(0, index, "{}")] if isinstance(block.part, ToolCall) and not block.grown else []
        seal_of = carried(block.signature, DIALECT)[0] if block.signature else None
        return [*late, PartEnd(0, index, seal_of)]

    def _stop(self, members: Members) -> list[Event]:
        self._stopped = True
        events = [event for _, block in sorted(self._blocks.items()) for event in self._end(block)]
        if self._ahead is not None:
            (place, seal), self._ahead = self._ahead, None
            events += [PartStart(0, place, hidden(seal)), PartEnd(0, place)]
        finish = finish_of(members)
        return [*events, *(Aside(None, extra) for extra in meaningful(members)), Finished(0, finish)]

    def _metadata(self, members: Members) -> list[Event]:
        self._measured = True
        usage, tier = take_usage(members), members.inside("serviceTier").take("type", STRING)
        events: list[Event] = [Opened("", "", tier)] if tier else []
        events += [Aside(None, extra) for extra in meaningful(members)]
        return [*events, Metered(usage)] if usage is not None else events


_EVENTS = {
    "messageStart": StreamDecoder._start,
    "contentBlockStart": StreamDecoder._block_start,
    "contentBlockDelta": StreamDecoder._block_delta,
    "contentBlockStop": StreamDecoder._block_stop,
    "messageStop": StreamDecoder._stop,
    "metadata": StreamDecoder._metadata,
}


class _Block:
    """A content block that is being told."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.part: Part | None = None
        self.grown = False
        self.signature = ""
        self.redacted: list[str] = []
        self.held: list[dict[str, Any]] | None = None  # start and deltas of a block that is told whole

    def redacted_whole(self) -> str:
        """Redacted content; of several pieces, their bytes one after another."""
        if len(self.redacted) == 1:
            return self.redacted[0]
        try:
            return base64.b64encode(b"".join(base64.b64decode(piece) for piece in self.redacted)).decode()
        except (binascii.Error, ValueError):
            return "".join(self.redacted)

    def hold(self, raw: msgspec.Raw) -> None:
        """A start or a delta of a block that is told whole.

        Raises:
            Fault: BAD_ANSWER for what is nested too deep.
        """
        try:
            piece = _dict(raw)
        except UNREADABLE:
            raise bad_answer() from None
        self.held = [*(self.held or ()), piece]

    def whole(self) -> Part | None:
        """The part a held block tells; None where it tells nothing."""
        document: dict[str, Any] = {}
        for piece in self.held or ():
            for name, value in piece.items():
                document[name] = _joined(name, document[name], value) if name in document else _first(name, value)
        if not document:
            return None
        call = document.get("toolUse")
        if isinstance(call, dict) and isinstance(call.get("input", ""), str):
            call["input"] = _input(call.get("input", ""))
        return decode_block(msgspec.Raw(_encode(document)), results=False)


def _first(name: str, value: Any) -> Any:
    return {CONTENT: value} if name == "toolResult" and isinstance(value, list) else value


def _joined(name: str, old: Any, new: Any) -> Any:
    """A member of a block with more of it."""
    if not isinstance(old, dict):
        return new
    if name == "toolResult" and isinstance(new, list):
        return {**old, CONTENT: [*old.get(CONTENT, ()), *new]}
    if not isinstance(new, dict):
        return old
    if name == "toolUse" and isinstance(old.get("input"), str) and isinstance(new.get("input"), str):
        return {**old, **new, "input": old["input"] + new["input"]}
    if name == IMAGE:
        first, more = _bytes(old), _bytes(new)
        if first is not None and more is not None:
            return {**old, **new, "source": {"bytes": base64.b64encode(first + more).decode()}}
    return {**old, **new}


def _input(text: str) -> Any:
    """What a model wrote for a call; its words where they are no JSON."""
    try:
        return msgspec.json.decode(text or "{}")
    except UNREADABLE:
        return text


def _bytes(image: dict[str, Any]) -> bytes | None:
    try:
        return base64.b64decode(image["source"]["bytes"])
    except (KeyError, TypeError, ValueError):
        return None
