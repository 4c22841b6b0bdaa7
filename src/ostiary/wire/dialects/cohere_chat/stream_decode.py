"""Chat streams to the pivot's events. It must not take a truncated stream for a whole one.

Source: Cohere API reference, v2 chat stream (official Python SDK 7.3, `V2ChatStreamResponse`); server-sent events whose
data name their `type`, ended by `message-end`.

What servers do beside the reference, and is taken: content without `content-start`; events without `index`; tool calls
as a list of one; `data: [DONE]` after the end. Types nobody knows are passed over: what ends a stream is known.
"""

from __future__ import annotations

from collections.abc import Callable

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
    Scored,
)
from ostiary.wire.conversation.members import Members
from ostiary.wire.conversation.parts import Part, Reasoning, Text, ToolCall, UnknownPart
from ostiary.wire.conversation.unknown import Extra
from ostiary.wire.dialects.cohere_chat.citations import decode_citation
from ostiary.wire.dialects.cohere_chat.faults import bad_answer, hidden_error, truncated
from ostiary.wire.dialects.cohere_chat.messages import CITATIONS
from ostiary.wire.dialects.cohere_chat.parts import (
    CONTENT,
    DIALECT,
    INTEGER,
    OF_ASSISTANT,
    RAW,
    RAWS,
    STRING,
    TOOL_CALLS,
    TOOL_PLAN,
    decode_part,
    plan,
)
from ostiary.wire.dialects.cohere_chat.reply import LOGPROBS, finish_of, meaningful, readable, score_of
from ostiary.wire.dialects.cohere_chat.usage import take_usage
from ostiary.wire.framing.sse import SseFramer, event_data

_DONE = b"[DONE]"
_PER_KIND = 1 << 20  # the index of a part: its kind's rank times this, plus its number among its kind
_PLAN, _CALL = 2 * _PER_KIND, 3 * _PER_KIND  # content comes first, and takes two numbers for each of its indices
_LONGEST_CITED = 4 * 1024 * 1024  # characters of text kept to compare citations with
_encode = msgspec.json.Encoder().encode


class StreamDecoder:
    """Reads one stream: bytes in any pieces in, events out."""

    def __init__(self) -> None:
        self._framer = SseFramer()
        self._open: dict[int, bool] = {}  # the parts begun, and whether they are still open
        self._content: dict[int, int] = {}  # content index -> the part it speaks of
        self._last = 0
        self._calls: dict[int, int] = {}  # tool call index -> the part
        self._begun = 0  # calls, those under a place that was used before included
        self._texts: dict[int, list[str]] = {}  # content index -> its text so far, in pieces
        self._kept = 0  # characters of them all
        self._over = False
        self._on: dict[str, Callable[[Members], list[Event]]] = {
            "message-start": self._start,
            "content-start": self._content_start,
            "content-delta": self._content_delta,
            "content-end": self._content_end,
            "tool-plan-delta": self._plan,
            "tool-call-start": self._call_start,
            "tool-call-delta": self._call_delta,
            "tool-call-end": self._call_end,
            "citation-start": self._cite,
            "message-end": self._end,
        }

    @property
    def over(self) -> bool:
        """`message-end` or a failure has come: nothing counts any more."""
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
            self._over = True
            events.append(Failed.of(truncated()))
        return events

    def _event(self, said: bytes) -> list[Event]:
        if said.strip() == _DONE:
            return []
        members = readable(said)
        if members is None:
            return self._fail(bad_answer())
        kind = members.take("type", STRING)
        message = members.take("message", STRING) if kind is None else None
        if message is not None:
            return self._fail(hidden_error(message))
        read = self._on.get(kind or "")
        try:
            return read(members) if read is not None else []
        except Fault as fault:
            return self._fail(fault)

    def _fail(self, fault: Fault) -> list[Event]:
        self._over = True
        return [Failed.of(fault)]

    def _start(self, members: Members) -> list[Event]:
        named = members.take("id", STRING)
        return [Opened(named, "")] if named else []

    def _content_start(self, members: Members) -> list[Event]:
        place = _index(members, self._last + 1 if self._content else 0)
        raw = _message(members).take(CONTENT, RAW)
        part: Part = decode_part(raw, OF_ASSISTANT) if raw is not None else Text("")
        text = part.text if isinstance(part, (Text, Reasoning)) else ""
        if isinstance(part, (Text, Reasoning)):
            part = msgspec.structs.replace(part, text="")
        return self._begin(place, part) + self._grow(place, text)

    def _content_delta(self, members: Members) -> list[Event]:
        place = _index(members, self._last)
        content = _message(members).inside(CONTENT)
        events: list[Event] = []
        for name, empty in (("thinking", Reasoning("")), ("text", Text(""))):
            said = content.take(name, STRING)
            if not said:
                continue
            if self._open.get(self._content.get(place, -1)) is not True or self._kind(place) != name:
                events += self._begin(place, empty)
            events += self._grow(place, said)
        return events + self._score(members)

    def _kind(self, place: int) -> str:
        return "text" if self._content[place] % 2 else "thinking"

    def _begin(self, place: int, part: Part) -> list[Event]:
        """A part of this content index; thinking and text may share one."""
        if not 0 <= place < _PER_KIND:
            raise bad_answer()
        index = 2 * place + (not isinstance(part, Reasoning))
        self._content[place] = index
        self._last = place
        if index in self._open:
            return self._still(index)
        self._open[index] = True
        if isinstance(part, Text):
            self._texts[place] = []
        return [PartStart(0, index, part)]

    def _still(self, index: int) -> list[Event]:
        """Nothing, for a part that is open; one that has ended does not go on."""
        if not self._open[index]:
            raise bad_answer()
        return []

    def _grow(self, place: int, text: str) -> list[Event]:
        if not text:
            return []
        if place in self._texts and self._kind(place) == "text" and self._kept < _LONGEST_CITED:
            self._texts[place].append(text)
            self._kept += len(text)
        return [PartDelta(0, self._content[place], text)]

    def _content_end(self, members: Members) -> list[Event]:
        return self._close(self._content.get(_index(members, self._last), -1))

    def _close(self, index: int) -> list[Event]:
        if not self._open.get(index):
            return []
        self._open[index] = False
        return [PartEnd(0, index)]

    def _score(self, members: Members) -> list[Event]:
        raw = members.take(LOGPROBS, RAW)
        if raw is None:
            return []
        score, more = score_of(raw)
        events: list[Event] = [Scored(0, (score,))] if score is not None else []
        if more:
            events.append(Aside(0, Extra(DIALECT, (LOGPROBS,), msgspec.Raw(_encode([raw])))))
        return events

    def _plan(self, members: Members) -> list[Event]:
        text = _message(members).take(TOOL_PLAN, STRING)
        if not text:
            return []
        start = self._still(_PLAN) if _PLAN in self._open else [PartStart(0, _PLAN, plan(""))]
        self._open[_PLAN] = True
        return [*start, PartDelta(0, _PLAN, text)]

    def _call_start(self, members: Members) -> list[Event]:
        place = _index(members, len(self._calls))
        raw = _call(members)
        item = Members.of(raw) if raw is not None else None
        if raw is None or item is None:
            raise bad_answer()
        index = _CALL + self._begun
        self._begun += 1
        self._calls[place] = index
        self._open[index] = True
        if "type" in item and item.take("type", STRING) != "function":
            return [PartStart(0, index, UnknownPart(DIALECT, TOOL_CALLS, raw))]
        inner = item.inside("function")
        named, name = item.take("id", STRING) or "", inner.take("name", STRING) or ""
        text = inner.take("arguments", STRING)
        start = PartStart(0, index, ToolCall(named, name, "", rest=item.rest(DIALECT)))
        return [*self._close(_PLAN), start, *([PartDelta(0, index, text)] if text else [])]

    def _call_delta(self, members: Members) -> list[Event]:
        index = self._calls.get(_index(members, self._latest_call()))
        raw = _call(members)
        item = Members.of(raw) if raw is not None else None
        text = item.inside("function").take("arguments", STRING) if item is not None else None
        if not text:
            return []
        if index is None or not self._open.get(index):
            raise bad_answer()
        return [PartDelta(0, index, text)]

    def _call_end(self, members: Members) -> list[Event]:
        return self._close(self._calls.get(_index(members, self._latest_call()), -1))

    def _latest_call(self) -> int:
        return next(reversed(self._calls), 0)

    def _cite(self, members: Members) -> list[Event]:
        raw = _message(members).take(CITATIONS, RAW)
        if raw is None:
            return []
        texts = {place: "".join(pieces) for place, pieces in self._texts.items()}
        self._texts = {place: [text] for place, text in texts.items()}
        events: list[Event] = []
        for one in _one_or_more(raw):
            cited = decode_citation(one, texts)
            if cited is None or 2 * cited[0] + 1 not in self._open:
                events.append(Aside(0, Extra(DIALECT, ("message", CITATIONS), msgspec.Raw(_encode([one])))))
            else:
                events.append(Cited(0, 2 * cited[0] + 1, cited[1]))
        return events

    def _end(self, members: Members) -> list[Event]:
        """The end of the answer, or what kept it from it."""
        delta = members.inside("delta")
        error = delta.take("error", STRING)
        if error is not None:
            raise hidden_error(error)
        finish = finish_of(delta.take("finish_reason", STRING))
        usage = take_usage(delta)
        delta.inside("message")
        members.take("id", STRING)
        events: list[Event] = [event for index in sorted(self._open) for event in self._close(index)]
        for extra in meaningful(members):
            # what stands in `delta` stands beside the message in a whole answer, or within it
            told = extra.path[1:] if extra.path[0] == "delta" and len(extra.path) > 1 else extra.path
            within = told[0] == "message" or told[0] == LOGPROBS
            events.append(Aside(0 if within else None, msgspec.structs.replace(extra, path=told)))
        self._over = True
        return [*events, Finished(0, finish), *([Metered(usage)] if usage is not None else [])]


def _message(members: Members) -> Members:
    return members.inside("delta").inside("message")


def _index(members: Members, otherwise: int) -> int:
    index = members.take("index", INTEGER)
    return otherwise if index is None else index


def _call(members: Members) -> msgspec.Raw | None:
    raw = _message(members).take(TOOL_CALLS, RAW)
    items = _one_or_more(raw) if raw is not None else []
    return items[0] if items else None


def _one_or_more(raw: msgspec.Raw) -> list[msgspec.Raw]:
    return RAWS.decode(raw) if bytes(raw).startswith(b"[") else [raw]
