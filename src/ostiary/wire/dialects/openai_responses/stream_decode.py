"""Streams of a response to the pivot's events. It must not take a truncated stream for a whole one.

Source: official Python SDK 3.54, `types.responses.ResponseStreamEvent`: server-sent events told apart by the `type` in
their data, the last being `response.completed`, `response.incomplete`, `response.failed` or `error`.

What servers do beside the reference, and is taken: no `sequence_number`, `output_index` or item names (an event then
belongs to the last item of its kind); no event for the beginning of an item or a part; deltas only, or only the whole
at the end; items that stand in the last response and were never told.
"""

from __future__ import annotations

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
    Scored,
)
from ostiary.wire.conversation.members import NULL, Members
from ostiary.wire.conversation.parts import Part, Reasoning, Refusal, Seal, Text
from ostiary.wire.dialects.openai_responses.faults import bad_answer, decode_failure, decode_fault, truncated
from ostiary.wire.dialects.openai_responses.items import PIECES, REASONED, SUMMARY, decode_item, piece, sealed
from ostiary.wire.dialects.openai_responses.parts import RAWS, STRING, decode_citation, decode_part, meaningful
from ostiary.wire.dialects.openai_responses.reply import TOLD, surroundings
from ostiary.wire.dialects.openai_responses.scores import decode_scores
from ostiary.wire.dialects.openai_responses.stream_items import MESSAGE, MOST_ITEMS, REASONING, Item
from ostiary.wire.dialects.openai_responses.usage import readable
from ostiary.wire.framing.sse import SseFramer, event_data

_NOTHING = msgspec.Raw(NULL)
_DONE = b"[DONE]"
_BEGINNINGS = frozenset({"response.created", "response.in_progress", "response.queued"})
_ENDS = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "response.cancelled": "cancelled",
}
_CALLS = {
    "response.function_call_arguments": "function_call",
    "response.custom_tool_call_input": "custom_tool_call",
}
# The events of what grows: the kind of item, and the part that grows.
_GROWING: dict[str, tuple[str, Part]] = {
    "response.output_text": (MESSAGE, Text("")),
    "response.refusal": (MESSAGE, Refusal("")),
    "response.reasoning_summary_text": (REASONING, Reasoning("")),
    "response.reasoning_text": (REASONING, Reasoning("")),
}


class _Event(msgspec.Struct):
    type: str = ""
    delta: str | None = None
    text: str | None = None
    refusal: str | None = None
    arguments: str | None = None
    input: str | None = None
    item_id: str | None = None
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    response: msgspec.Raw = _NOTHING
    item: msgspec.Raw = _NOTHING
    part: msgspec.Raw = _NOTHING
    annotation: msgspec.Raw = _NOTHING
    logprobs: msgspec.Raw = _NOTHING
    error: msgspec.Raw = _NOTHING


_event = msgspec.json.Decoder(_Event).decode


class _Rubbish(Exception):  # no error, a way out
    """An event that cannot be."""


class StreamDecoder:
    """Reads one stream: bytes in any pieces in, events out."""

    def __init__(self) -> None:
        self._framer = SseFramer()
        self._items: dict[int, Item] = {}
        self._names: dict[str, Item] = {}
        self._last: Item | None = None
        self._named = ("", "", "")
        self._ahead: Seal | None = None
        self._words = False  # the item before is a message
        self._over = False

    @property
    def over(self) -> bool:
        """The last event has come, or a failure: nothing counts any more."""
        return self._over

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes."""
        events: list[Event] = []
        for frame in self._framer.feed(data):
            said = event_data(frame)
            if said is not None and not self._over:
                events += self._read(said)
        return events

    def finish(self) -> list[Event]:
        """The stream is over: what is left, and `Failed` where it was cut. Call it once."""
        rest = event_data(self._framer.flush())
        events: list[Event] = []
        if rest is not None and not self._over and readable(rest) is not None:
            events += self._read(rest)
        if not self._over:
            events += self._failed(truncated())
        return events

    def _failed(self, fault: Fault) -> list[Event]:
        self._over = True
        return [Failed.of(fault)]

    def _read(self, said: bytes) -> list[Event]:
        if said.strip() == _DONE:
            return []  # means nothing here: the last event has come, or the stream was cut
        try:
            said.decode()  # what is kept raw must be text too
            return self._event(_event(said), said)
        except msgspec.ValidationError:
            return []  # an event of another shape is none of those that are read
        except (_Rubbish, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._failed(bad_answer())

    def _event(self, event: _Event, said: bytes) -> list[Event]:
        kind = event.type
        stem, _, tail = kind.rpartition(".")
        if stem in _GROWING:
            return self._grow(event, stem, tail)
        if stem in _CALLS:
            return self._call(event, _CALLS[stem], tail)
        if kind == "response.output_item.added":
            return self._added(event)
        if kind == "response.output_item.done":
            members = Members.of(event.item)
            event.item_id = members.take("id", STRING) if members is not None else None
            return self._done(self._item(event, ""), event.item)
        if stem in ("response.content_part", "response.reasoning_summary_part"):
            return self._piece(event, tail, summary=stem.endswith("summary_part"))
        if kind == "response.output_text.annotation.added":
            return self._annotation(event)
        if kind in _BEGINNINGS:
            members = Members.of(event.response)
            return self._opened(members) if members is not None else []
        if kind in _ENDS:
            return self._ended(event, _ENDS[kind])
        if kind == "error" or (not kind and event.error is not _NOTHING):
            return self._failed(decode_failure(said if event.error is _NOTHING else event.error))
        return []

    def _opened(self, members: Members) -> list[Event]:
        id_, model, tier = (members.take(name, STRING) or "" for name in ("id", "model", "service_tier"))
        return self._name(id_, model, tier)

    def _name(self, id_: str, model: str, tier: str) -> list[Event]:
        old = self._named
        named = (id_ or old[0], model or old[1], tier or old[2])
        self._named = named
        return [Opened(*named)] if named != old else []

    def _item(self, event: _Event, kind: str) -> Item:
        """The item an event belongs to; a new one where there is none. `kind`: its type, "" where that may be any."""
        place, name = event.output_index, event.item_id or ""
        if place is not None and not 0 <= place < MOST_ITEMS:
            raise _Rubbish
        found = self._items.get(place) if place is not None else self._names.get(name)
        if found is None and place is None and self._last is not None:
            last = self._last
            nameless = not (name and last.name)
            found = last if nameless and not last.done and (not kind or last.kind == kind) else None
        if found is None:
            found = self._begin(max(self._items, default=-1) + 1 if place is None else place, kind)
        if kind and found.kind != kind:
            raise _Rubbish
        if name and not found.name:
            self._call_it(found, name)
        return found

    def _call_it(self, item: Item, name: str) -> None:
        item.name = name
        self._names[name] = item

    def _begin(self, place: int, kind: str) -> Item:
        if place >= MOST_ITEMS:
            raise _Rubbish
        item = Item(place, kind, follows=self._words)
        self._words = False
        self._items[place] = self._last = item
        return item

    def _added(self, event: _Event) -> list[Event]:
        members = Members.of(event.item)
        if members is None:
            raise _Rubbish
        place = event.output_index
        if place is None:
            place = max(self._items, default=-1) + 1
        elif not 0 <= place < MOST_ITEMS:
            raise _Rubbish
        if place in self._items:
            return []
        item = self._begin(place, members.take("type", STRING) or "")
        name = members.take("id", STRING)
        if name:
            self._call_it(item, name)
        return self._start(item, 0, part) if (part := item.read(members)) is not None else []

    def _start(self, item: Item, sub: int, part: Part) -> list[Event]:
        """A part of an item begins."""
        first = not item.parts
        if first and self._ahead is not None:
            part = sealed(part, self._ahead)
            self._ahead = None
        if item.kind == MESSAGE:
            self._words = True
        return item.start(sub, part)

    def _grow(self, event: _Event, stem: str, tail: str) -> list[Event]:
        kind, part = _GROWING[stem]
        item = self._item(event, kind)
        if item.done:
            return []  # it has been told whole
        raw = stem == "response.reasoning_text"
        sub = item.sub(event.summary_index if stem.endswith("summary_text") else event.content_index, raw=raw)
        events: list[Event] = []
        if sub not in item.parts:
            events += self._start(item, sub, item.part(part, raw=raw))
        if tail == "delta" and event.delta:
            item.parts[sub].append(event.delta)
            events.append(PartDelta(0, item.base + sub, event.delta))
        elif tail == "done":
            events += item.catch_up(sub, event.refusal if stem.endswith("refusal") else event.text)
        if tail == "delta" and event.logprobs is not _NOTHING:
            item.scores += decode_scores(event.logprobs)
        return events

    def _call(self, event: _Event, kind: str, tail: str) -> list[Event]:
        item = self._item(event, kind)
        if item.done:
            return []
        if not item.parts:
            item.held.append(event.delta or "")  # its name is not known yet
            return []
        if tail == "delta" and event.delta:
            item.parts[0].append(event.delta)
            return [PartDelta(0, item.base, event.delta)]
        return item.catch_up(0, event.arguments if kind == "function_call" else event.input) if tail == "done" else []

    def _piece(self, event: _Event, tail: str, *, summary: bool) -> list[Event]:
        """A part of a message, or a piece of reasoning, begins; that it ends is seen when its item does."""
        if tail != "added":
            return []
        members = Members.of(event.part)
        kind = members.take("type", STRING) if members is not None else None
        raw = kind == PIECES[REASONED]
        if summary or raw:
            item = self._item(event, REASONING)
            if item.done:
                return []
            thought = piece(event.part, PIECES[REASONED if raw else SUMMARY])
            sub = item.sub(event.summary_index if summary else event.content_index, raw=raw, begin=True)
            if thought is None or sub in item.parts:
                return []
            return self._start(item, sub, item.part(msgspec.structs.replace(thought, text=""), raw=raw))
        item = self._item(event, MESSAGE)
        if item.done:
            return []
        part = decode_part(event.part, "output_text")
        sub = item.sub(event.content_index, raw=False, begin=True)
        if not isinstance(part, (Text, Refusal)) or sub in item.parts:
            return []
        rest = tuple(extra for extra in meaningful(part.rest) if extra.path != ("logprobs",))
        return self._start(item, sub, item.part(type(part)("", rest), raw=False))

    def _annotation(self, event: _Event) -> list[Event]:
        item = self._item(event, MESSAGE)
        if item.done:
            return []
        sub = item.sub(event.content_index, raw=False)
        citation = decode_citation(event.annotation)
        if citation is None:
            return []
        events = [] if sub in item.parts else self._start(item, sub, item.part(Text(""), raw=False))
        item.cited[sub] = item.cited.get(sub, 0) + 1
        return [*events, Cited(0, item.base + sub, citation)]

    def _done(self, item: Item, raw: msgspec.Raw) -> list[Event]:
        """What an item says that has not been told, and its end."""
        if item.done:
            return []
        members = Members.of(raw)
        if members is None:
            raise _Rubbish
        if not item.kind:
            item.kind = members.take("type", STRING) or ""
        told = decode_item(raw, keep=False)
        item.done = True
        if told.ahead is not None:
            self._ahead = told.ahead
            return []
        events: list[Event] = []
        for sub, part in item.placed(told.parts):
            if sub in item.parts:
                events += item.complete(sub, part)
            else:
                events += self._start(item, sub, item.following(part))
        scores = told.scores or item.scores
        seals = [part.seal for part in told.parts if isinstance(part, Reasoning) and part.seal is not None]
        return [*events, *([Scored(0, tuple(scores))] if scores else []), *item.end(seals[-1] if seals else None)]

    def _ended(self, event: _Event, status: str) -> list[Event]:
        members = readable(event.response, TOLD)
        if members is None:
            return self._failed(bad_answer())
        raws = members.take("output", RAWS) or []
        told = surroundings(members, status)
        if told.fault is not None or status in ("failed", "cancelled"):
            return self._failed(told.fault or (truncated() if status == "cancelled" else decode_fault(502, b"")))
        events: list[Event] = []
        missing = len(self._items) < len(raws)
        for place, raw in enumerate(raws[:MOST_ITEMS]):
            item = self._items.get(place)
            if item is None and missing:
                item = self._begin(place, "")
            if item is not None:
                events += self._done(item, raw)
        for item in self._items.values():
            events += item.end(None)
        self._over = True
        events += self._name(told.id, told.model, told.tier)
        events += [Aside(None, extra) for extra in told.rest]
        if told.usage is not None:
            events.append(Metered(told.usage))
        called = any(item.called for item in self._items.values())
        return [*events, Finished(0, told.finish(called))]
