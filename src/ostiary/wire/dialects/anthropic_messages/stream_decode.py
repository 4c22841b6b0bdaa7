"""Streams to the pivot's events. It must not take a truncated stream for a whole one.

Source: official Python SDK 2.12, `types.RawMessageStreamEvent` and its accumulation in `lib.streaming`: the counts of
`message_delta` are totals, and a later signature replaces an earlier one. Only `message_stop` is the end. Events and
deltas that are not known are kept as asides; blocks that the pivot does not know are told once they are whole.
"""

from __future__ import annotations

from typing import Any

import msgspec

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
from ostiary.wire.conversation.members import Members
from ostiary.wire.conversation.parts import Part, Reasoning, Seal, Text, ToolCall, UnknownPart
from ostiary.wire.conversation.reply import Finish, Reason
from ostiary.wire.conversation.unknown import Extra
from ostiary.wire.dialects.anthropic_messages.faults import hidden_error
from ostiary.wire.dialects.anthropic_messages.parts import (
    CONTENT,
    DIALECT,
    INTEGER,
    RAW,
    RAWS,
    STRING,
    decode_block,
    decode_citation,
    is_ahead,
    proof_in,
)
from ostiary.wire.dialects.anthropic_messages.reply import EVENT, meaningful, plainer, readable, take_finish
from ostiary.wire.dialects.anthropic_messages.usage import Counts, bad_answer, take_tier, truncated
from ostiary.wire.framing.sse import SseFramer, event_data

# What begins a block that a server forgot to begin.
_IMPLIED = {"text_delta": b'{"type":"text","text":""}', "thinking_delta": b'{"type":"thinking","thinking":""}'}
_IN_BLOCK = {"partial_json": "input", "citation": "citations"}  # members of deltas, where a block has another name
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class StreamDecoder:
    """Reads one stream: bytes in any pieces in, events out."""

    def __init__(self) -> None:
        self._framer = SseFramer()
        self._counts = Counts()
        self._blocks: dict[int, _Block] = {}
        self._places = 0
        self._ahead: tuple[int, Reasoning] | None = None
        self._finish = Finish(Reason.OTHER)
        self._over = False

    @property
    def over(self) -> bool:
        """`message_stop` or a failure has come."""
        return self._over

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes."""
        events: list[Event] = []
        for frame in self._framer.feed(data):
            said = event_data(frame)
            if said is not None and not self._over:
                events += self._event(said)
        return events

    def finish(self) -> list[Event]:
        """The stream is over: what is left, and `Failed` where it was cut. Call it once."""
        rest = event_data(self._framer.flush())
        events: list[Event] = []
        if rest is not None and not self._over and readable(rest) is not None:
            events += self._event(rest)
        if not self._over:
            events += self._fail(Failed.of(truncated()))
        return events

    def _event(self, said: bytes) -> list[Event]:
        members = readable(said)
        kind = members.take("type", STRING) if members is not None else None
        if members is None or kind is None:
            return self._fail(
                Failed.of(bad_answer() if members is None or "error" not in members else hidden_error(said))
            )
        match kind:
            case "content_block_delta":
                return self._delta(members)
            case "content_block_start":
                return self._start(members)
            case "content_block_stop":
                block = self._blocks.pop(_index(members), None)
                return block.end() if block is not None else []
            case "message_start":
                return self._opened(members.inside("message"))
            case "message_delta":
                return self._closing(members)
            case "message_stop":
                return self._stop()
            case "error":
                return self._fail(Failed.of(hidden_error(said)))
            case "ping":
                return []
        return [Aside(None, Extra(DIALECT, (EVENT, kind), msgspec.Raw(said)))] if meaningful(members) else []

    def _fail(self, failed: Failed) -> list[Event]:
        self._over = True
        return [failed]

    def _opened(self, message: Members) -> list[Event]:
        events, tier = self._metered(message)
        named = message.take("id", STRING) or "", message.take("model", STRING) or ""
        if "stop_reason" in message:
            self._finish = take_finish(message)
        raws = message.take(CONTENT, RAWS) or []
        events.append(Opened(*named, tier))
        events += [Aside(None, extra) for extra in meaningful(message)]
        for raw in raws:  # the start of an answer that was given with the request
            events += self._begin(-1 - self._places, raw)
        return events

    def _metered(self, holder: Members) -> tuple[list[Event], str]:
        """What `usage` says: the counts so far, and the tier."""
        usage = holder.inside("usage")
        counted, tier = self._counts.take(usage), take_tier(usage)
        return [Metered(counted)] if counted is not None else [], tier

    def _closing(self, members: Members) -> list[Event]:
        events, tier = self._metered(members)
        delta = members.inside("delta")
        self._finish = take_finish(delta) if "stop_reason" in delta else self._finish
        if tier:
            events.append(Opened("", "", tier))
        meaningful(delta)  # takes what every answer has
        for extra in meaningful(members):
            # what stands in the delta belongs to the message
            inner = len(extra.path) > 1 and extra.path[0] == "delta"
            events.append(Aside(None, msgspec.structs.replace(extra, path=extra.path[inner:])))
        return events

    def _stop(self) -> list[Event]:
        self._over = True
        events = [event for block in self._blocks.values() for event in block.end()]
        return [*events, *self._flush(), Finished(0, self._finish)]

    def _start(self, members: Members) -> list[Event]:
        index, raw = _index(members), members.take("content_block", RAW)
        if index < 0 or raw is None or Members.of(raw) is None:
            return self._fail(Failed.of(bad_answer()))
        return self._begin(index, raw)

    def _begin(self, index: int, raw: msgspec.Raw) -> list[Event]:
        """A block begins; one that was left open under its number has ended."""
        open_ = self._blocks.pop(index, None)
        events = open_.end() if open_ is not None else []
        place, part = self._places, plainer(decode_block(raw))
        self._places += 1
        if is_ahead(raw, part):
            events += self._flush()
            assert isinstance(part, Reasoning)
            self._ahead = (place, part)
            return events
        seal: Seal | None = None
        if self._ahead is not None and isinstance(part, (Text, ToolCall)):
            seal, self._ahead = self._ahead[1].seal, None
        block = self._blocks[index] = _Block(place, part)
        return events + block.begin(seal)

    def _flush(self) -> list[Event]:
        """A proof that was sent ahead of nothing stands for itself."""
        if self._ahead is None:
            return []
        (place, part), self._ahead = self._ahead, None
        return [PartStart(0, place, part), PartEnd(0, place)]

    def _delta(self, members: Members) -> list[Event]:
        index, raw = _index(members), members.take("delta", RAW)
        delta = Members.of(raw) if raw is not None else None
        kind = delta.take("type", STRING) if delta is not None else None
        if raw is None or delta is None or kind is None:
            return self._fail(Failed.of(bad_answer()))
        events: list[Event] = []
        if index >= 0 and index not in self._blocks and kind in _IMPLIED:
            events = self._begin(index, msgspec.Raw(_IMPLIED[kind]))
        block = self._blocks.get(index)
        if block is None:
            return self._fail(Failed.of(bad_answer()))
        return events + block.delta(kind, delta, raw)


def _index(members: Members) -> int:
    """The number of a block; -1 where there is none."""
    index = members.take("index", INTEGER)
    return index if index is not None and index >= 0 else -1


class _Block:
    """A block that is being told."""

    def __init__(self, place: int, part: Part) -> None:
        self._place = place
        self._part = part
        self._seal: Seal | None = None
        self._arguments = ""  # of a call whose arguments were told at once
        self._grown = False
        self._whole: dict[str, Any] | None = None
        self._pieces: dict[str, list[str]] = {}

    def begin(self, seal: Seal | None) -> list[Event]:
        """The start of a part, with the proof sent ahead of it; nothing for a block that is told when it is whole."""
        part = self._part
        match part:
            case UnknownPart():
                return []
            case ToolCall():
                self._arguments = part.arguments
                part = msgspec.structs.replace(part, arguments="", seal=seal)
            case Text() if seal is not None:
                part = msgspec.structs.replace(part, seal=seal)
        return [PartStart(0, self._place, part)]

    def delta(self, kind: str, delta: Members, raw: msgspec.Raw) -> list[Event]:
        """More of a block."""
        match self._part, kind:
            case Text(), "text_delta":
                text = delta.take("text", STRING)
            case Reasoning(), "thinking_delta":
                text = delta.take("thinking", STRING)
            case ToolCall(), "input_json_delta":
                text = delta.take("partial_json", STRING)
                self._grown = self._grown or bool(text)
            case Reasoning(), "signature_delta":
                signature = delta.take("signature", STRING)
                self._seal = proof_in(signature) or self._seal
                return []
            case Text(), "citations_delta":
                citation = decode_citation(delta.take("citation", RAW) or msgspec.Raw(b"null"))
                return [Cited(0, self._place, citation)] if citation is not None else []
            case UnknownPart(), _:
                self._merge(delta)
                return []
            case _:
                return [Aside(0, Extra(DIALECT, (CONTENT, str(self._place), kind), raw))]
        return [PartDelta(0, self._place, text)] if text else []

    def _merge(self, delta: Members) -> None:
        """A piece of a block that the pivot does not know: words are joined, lists grow, else the last word counts."""
        assert isinstance(self._part, UnknownPart)
        if self._whole is None:
            self._whole = _decode(self._part.value)
        for extra in delta.rest(DIALECT):
            name, value = _IN_BLOCK.get(extra.path[0], extra.path[0]), _decode(extra.value)
            old = self._whole.get(name)
            if extra.path[0] == "citation":
                self._whole[name] = found = old if isinstance(old, list) else []
                found.append(value)
            elif isinstance(value, str) and (extra.path[0] == "partial_json" or isinstance(old, str)):
                self._pieces.setdefault(name, [old] if isinstance(old, str) else []).append(value)
            else:
                self._whole[name] = value

    def end(self) -> list[Event]:
        """The part is whole."""
        part = self._part
        if isinstance(part, UnknownPart):
            return [PartStart(0, self._place, self._complete(part)), PartEnd(0, self._place)]
        late = [PartDelta(0, self._place, self._arguments)] if self._arguments and not self._grown else []
        return [*late, PartEnd(0, self._place, self._seal)]

    def _complete(self, part: UnknownPart) -> UnknownPart:
        if self._whole is None:
            return part
        for name, pieces in self._pieces.items():
            text = "".join(pieces)
            self._whole[name] = _json(text) if name == "input" else text
        return msgspec.structs.replace(part, value=msgspec.Raw(_encode(self._whole)))


def _json(text: str) -> Any:
    """What a model wrote as JSON; the text itself where it is none."""
    try:
        _decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
    return msgspec.Raw(text.encode())
