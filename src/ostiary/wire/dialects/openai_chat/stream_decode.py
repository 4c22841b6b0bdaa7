"""Chat streams to the pivot's events. It must not take a truncated stream for a whole one.

Source: OpenAI API reference, the chat completion chunk (official Python SDK 3.54, `ChatCompletionChunk`); server-sent
events, ended by `data: [DONE]`.

What servers do beside the reference, and is taken: reasoning in `reasoning_content` or `reasoning`; tool calls without
`index`, or with the same index and another id; a call's name after its id; content as a list; no `[DONE]` at the end.
The parts of a choice stay open until it finishes, because their deltas may alternate. Only reasoning may end before:
where a thinking block says what has been thought so far, or is the proof of it.
"""

from __future__ import annotations

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
from ostiary.wire.conversation.members import UNREADABLE, Members
from ostiary.wire.conversation.parts import Part, Reasoning, Refusal, Seal, Text, ToolCall, UnknownPart
from ostiary.wire.conversation.unknown import Extra, Rest
from ostiary.wire.dialects.openai_chat.citations import take_citations
from ostiary.wire.dialects.openai_chat.parts import ARGUMENTS, CONTENT, IMAGES, TOOL_CALLS, decode_picture
from ostiary.wire.dialects.openai_chat.proofs import BLOCKS, read_blocks, take_call_seal, take_text_seal
from ostiary.wire.dialects.openai_chat.reply import (
    CALL,
    NAMES,
    OTHER,
    PICTURE,
    REFUSAL,
    TEXT,
    content_pieces,
    error_of,
    finish_of,
    meaningful,
    readable,
    take_reasoning,
    take_usage,
    truncated,
)
from ostiary.wire.dialects.openai_chat.scores import take_scores
from ostiary.wire.dialects.openai_chat.usage import bad_answer, hidden_error
from ostiary.wire.dialects.openai_chat.values import DIALECT, INTEGER, RAW, RAWS, STRING
from ostiary.wire.framing.sse import SseFramer, event_data

_DONE = b"[DONE]"
_MOST_CHOICES = 128  # the most that can be asked for
_PER_KIND = 1 << 20  # the index of a part: its kind's rank times this, plus its number among its kind
_GROWING: dict[int, Part] = {TEXT: Text(""), REFUSAL: Refusal("")}


class _PlainDelta(msgspec.Struct, forbid_unknown_fields=True):
    content: str
    role: str | None = None


class _PlainChoice(msgspec.Struct, forbid_unknown_fields=True):
    index: int
    delta: _PlainDelta
    logprobs: None = None
    finish_reason: None = None


class _PlainChunk(msgspec.Struct, forbid_unknown_fields=True):
    """A chunk that says nothing but more words: nearly every one. It is read without taking it apart."""

    id: str
    model: str
    choices: tuple[_PlainChoice]
    object: str | None = None
    created: int | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    usage: None = None
    obfuscation: str | None = None


_plain = msgspec.json.Decoder(_PlainChunk).decode


class StreamDecoder:
    """Reads one stream: bytes in any pieces in, events out."""

    def __init__(self) -> None:
        self._framer = SseFramer()
        self._choices: dict[int, _Telling] = {}
        self._named = ("", "", "")
        self._usage: Usage | None = None
        self._asides: dict[tuple[str, ...], Extra] = {}
        self._over = False  # nothing counts any more
        self._frame: tuple[str, str, str | None, str | None] | None = None  # of the last chunk: names and remarks

    @property
    def over(self) -> bool:
        """`[DONE]` or a failure has come."""
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
        if rest is not None and not self._over and (rest.strip() == _DONE or readable(rest) is not None):
            events += self._event(rest)
        if not self._over:
            whole = bool(self._choices) and all(choice.finished for choice in self._choices.values())
            self._over = True
            events += [] if whole else [Failed.of(truncated())]
        return events

    def _event(self, said: bytes) -> list[Event]:
        if said.strip() == _DONE:
            self._over = True
            return [event for choice in self._choices.values() for event in choice.end(None)]
        more = self._more_words(said)
        if more is not None:
            return more
        members = readable(said)
        if members is None or error_of(members):
            self._over = True
            return [Failed.of(bad_answer() if members is None else hidden_error(said))]
        return self._chunk(members)

    def _more_words(self, said: bytes) -> list[Event] | None:
        """The one event of a chunk that only goes on with its choice's words; None where it may say more."""
        try:
            chunk = _plain(said)
        except UNREADABLE:
            return None
        frame = chunk.id, chunk.model, chunk.system_fingerprint, chunk.service_tier
        if frame != self._frame:  # seen for the first time: the long way tells what is new
            self._frame = frame
            return None
        choice = self._choices.get(chunk.choices[0].index)
        return None if choice is None else choice.more_words(chunk.choices[0].delta.content)

    def _chunk(self, members: Members) -> list[Event]:
        events: list[Event] = []
        name, model, tier = (members.take(name, STRING) or old for name, old in zip(NAMES, self._named, strict=True))
        if (name, model, tier) != self._named:
            self._named = (name, model, tier)
            events.append(Opened(name, model, tier))
        raws, usage = members.take("choices", RAWS) or [], take_usage(members)
        for extra in meaningful(members, "object", "created", "error", "obfuscation"):
            if self._asides.get(extra.path) != extra:
                self._asides[extra.path] = extra
                events.append(Aside(None, extra))
        for raw in raws:
            choice = Members.of(raw)
            index = (choice.take("index", INTEGER) or 0) if choice is not None else -1
            if choice is None or not 0 <= index < _MOST_CHOICES:
                self._over = True
                return [*events, Failed.of(bad_answer())]
            events += self._choices.setdefault(index, _Telling(index)).chunk(choice)
        if usage is not None and usage != self._usage:
            self._usage = usage
            events.append(Metered(usage))
        return events


class _Call:
    """A tool call that is being told; it has begun once its name is known."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.begun = False
        self.id = ""
        self.free = False
        self.held = ""
        self.rest: Rest = ()
        self.seal: Seal | None = None


class _Telling:
    """One choice of a stream."""

    def __init__(self, index: int) -> None:
        self.finished = False
        self._index = index
        self._open: set[int] = set()
        self._others = 0
        self._calls: dict[int, _Call] = {}
        self._places = 0
        self._last = 0
        self._seals: dict[int, Seal] = {}  # of parts that have begun
        self._thought: list[str] | None = None  # what is told of the reasoning that is open
        self._thoughts = 0  # those that have ended

    def chunk(self, choice: Members) -> list[Event]:
        """The events of this choice's share of a chunk."""
        delta, word = choice.inside("delta"), choice.take("finish_reason", STRING)
        delta.take("role", STRING)
        if self.finished:
            return []  # its parts have ended
        events = self._reasoning(delta)
        text = delta.take(CONTENT, STRING)
        others: list[Part] = []
        if text is None:
            text, others = content_pieces(delta.take(CONTENT, RAWS) or [])
        events += self._grow(TEXT, text)
        events += self._beside_text(delta)
        events += [self._whole(OTHER, part) for part in others]
        events += [self._whole(PICTURE, decode_picture(raw)) for raw in delta.take(IMAGES, RAWS) or ()]
        events += self._grow(REFUSAL, delta.take("refusal", STRING))
        for raw in delta.take(TOOL_CALLS, RAWS) or ():
            events += self._call(raw)
        scores = take_scores(choice)
        events += [Scored(self._index, scores)] if scores else []
        for extra in meaningful(choice):
            path = ("message", *extra.path[1:]) if extra.path[0] == "delta" else extra.path
            events.append(Aside(self._index, msgspec.structs.replace(extra, path=path)))
        if word is not None and not self.finished:
            events += self.end(word)
        return events

    def more_words(self, text: str) -> list[Event] | None:
        """The event for more of words that have begun; None where they have not."""
        index = TEXT * _PER_KIND
        return [PartDelta(self._index, index, text)] if text and index in self._open and not self.finished else None

    def end(self, word: str | None) -> list[Event]:
        """The end of this choice, unless it has come already."""
        if self.finished:
            return []
        self.finished = True
        late = [event for call in self._calls.values() if not call.begun for event in self._begin(call, "")]
        ends = [PartEnd(self._index, part, self._seals.get(part)) for part in sorted(self._open)]
        return [*late, *ends, Finished(self._index, finish_of(word))]

    def _reasoning(self, delta: Members) -> list[Event]:
        """The share of a delta that is reasoning, told as text, in blocks, or both."""
        text = take_reasoning(delta)
        events = self._think(text)
        raw = delta.take(BLOCKS, RAW)
        blocks = read_blocks(raw) if raw is not None else []
        if raw is not None and not blocks:
            delta.put_back(BLOCKS, raw)
        for block in blocks:
            events += self._block(block, repeated=bool(text))
        return events

    def _block(self, block: Reasoning, *, repeated: bool) -> list[Event]:
        """A thinking block: it ends the reasoning that it repeats or proves, or is one of its own.

        `repeated`: its delta tells the same reasoning as text; some servers write a block for each piece.
        """
        said = "".join(self._thought or ())
        if block.hidden:
            return [*self._end_thought(), *self._end_thought(block)]
        if block.seal is None and (repeated or block.text != said):
            return [] if repeated else self._think(block.text)
        if self._thought is not None and block.text in ("", said):
            return self._end_thought(block)
        return [*self._end_thought(), *self._think(block.text), *self._end_thought(block)]

    def _think(self, text: str) -> list[Event]:
        if not text:
            return []
        events: list[Event] = [PartDelta(self._index, self._thoughts, text)]
        if self._thought is None:
            self._thought = []
            self._open.add(self._thoughts)
            events.insert(0, PartStart(self._index, self._thoughts, Reasoning("")))
        self._thought.append(text)
        return events

    def _end_thought(self, block: Reasoning | None = None) -> list[Event]:
        """The end of the reasoning that is open; with a block, of one that it proves, open or not."""
        if self._thought is None and block is None:
            return []
        events: list[Event] = []
        if self._thought is None and block is not None:
            whole = msgspec.structs.replace(block, seal=None)
            events.append(PartStart(self._index, self._thoughts, whole))
        events.append(PartEnd(self._index, self._thoughts, None if block is None else block.seal))
        self._open.discard(self._thoughts)
        self._thought = None
        self._thoughts += 1
        return events

    def _beside_text(self, delta: Members) -> list[Event]:
        """Where the words come from, and their proof."""
        citations, seal = take_citations(delta), take_text_seal(delta)
        if not citations and seal is None:
            return []
        index = TEXT * _PER_KIND
        start: list[Event] = [] if index in self._open else [PartStart(self._index, index, Text(""))]
        self._open.add(index)
        if seal is not None:
            self._seals[index] = seal
        return [*start, *(Cited(self._index, index, citation) for citation in citations)]

    def _grow(self, kind: int, text: str | None) -> list[Event]:
        if not text:
            return []
        index = kind * _PER_KIND
        delta = PartDelta(self._index, index, text)
        if index in self._open:
            return [delta]
        self._open.add(index)
        return [PartStart(self._index, index, _GROWING[kind]), delta]

    def _whole(self, kind: int, part: Part) -> Event:
        """A part that does not grow."""
        self._others += 1
        index = kind * _PER_KIND + (self._next_place() if kind == CALL else self._others)
        self._open.add(index)
        return PartStart(self._index, index, part)

    def _next_place(self) -> int:
        self._places += 1
        return self._places

    def _call(self, raw: msgspec.Raw) -> list[Event]:
        item = Members.of(raw)
        kind = item.take("type", STRING) if item is not None else None
        if item is None or kind not in (None, "function", "custom"):
            return [self._whole(CALL, UnknownPart(DIALECT, TOOL_CALLS, raw))]
        free = kind == "custom" or "custom" in item
        inner = item.inside("custom" if free else "function")
        named, name = item.take("id", STRING) or "", inner.take("name", STRING) or ""
        text = inner.take(ARGUMENTS["custom" if free else "function"], STRING) or ""
        call = self._which(item.take("index", INTEGER), named, name)
        call.id = call.id or named
        seal, note = take_call_seal(item)
        if call.begun:
            if seal is not None:
                self._seals[CALL * _PER_KIND + call.place] = seal
            return [PartDelta(self._index, CALL * _PER_KIND + call.place, text)] if text else []
        call.free = call.free or free
        call.held += text
        call.seal = seal or call.seal
        call.rest += (*item.rest(DIALECT), *note)
        return self._begin(call, name) if name else []

    def _which(self, index: int | None, named: str, name: str) -> _Call:
        """The call that a delta belongs to."""
        key = index if index is not None else self._last
        call = self._calls.get(key)
        if call is not None and named and named != call.id and (call.begun and name):
            self._calls[-call.place] = call  # another call under the same number
            call = None
        if call is None:
            call = self._calls[key] = _Call(self._next_place())
        self._last = key
        return call

    def _begin(self, call: _Call, name: str) -> list[Event]:
        call.begun = True
        index = CALL * _PER_KIND + call.place
        self._open.add(index)
        rest = tuple(sorted(call.rest, key=lambda extra: extra.path))
        start = PartStart(self._index, index, ToolCall(call.id, name, "", call.free, rest, seal=call.seal))
        return [start, PartDelta(self._index, index, call.held)] if call.held else [start]
