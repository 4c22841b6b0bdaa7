"""Chat streams to the pivot's events. It must not take a truncated stream for a whole one.

Source: Ollama's API documentation, `POST /api/chat` (official Python package 0.6, `ChatResponse`): JSON lines, each
with a piece of the message, the last with `done: true`. Tool calls and images come whole. A line with `error` ends it.
The parts stay open until the end, because their pieces may alternate.
"""

from __future__ import annotations

from ostiary.core.fault import Fault, Kind
from ostiary.wire.conversation.events import (
    Aside,
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
from ostiary.wire.conversation.parts import Part, Reasoning, Text
from ostiary.wire.conversation.unknown import Extra
from ostiary.wire.dialects.ollama_chat.faults import truncated
from ostiary.wire.dialects.ollama_chat.parts import (
    CONTENT,
    FLAG,
    IMAGES,
    RAWS,
    STRING,
    THINKING,
    TOOL_CALLS,
    decode_call,
    decode_image,
)
from ostiary.wire.dialects.ollama_chat.reply import (
    CALL,
    LOGPROBS,
    PICTURE,
    THOUGHT,
    WORDS,
    answer_of,
    finish_of,
    made_ids,
    meaningful,
    take_scores,
    take_usage,
)
from ostiary.wire.framing.json_lines import JsonLinesFramer

_PER_KIND = 1 << 20  # the index of a part: its kind's rank times this, plus its number among its kind
_GROWING: dict[int, Part] = {THOUGHT: Reasoning(""), WORDS: Text("")}


class StreamDecoder:
    """Reads one stream: bytes in any pieces in, events out."""

    def __init__(self) -> None:
        self._framer = JsonLinesFramer()
        self._open: set[int] = set()
        self._whole = {PICTURE: 0, CALL: 0}  # how many of each have come
        self._model = ""
        self._made: str | None = None
        self._asides: dict[tuple[str, ...], Extra] = {}
        self._over = False

    @property
    def over(self) -> bool:
        """The last line or a failure has come: nothing counts any more."""
        return self._over

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes."""
        events: list[Event] = []
        for line in self._framer.feed(data):
            if not self._over and line.strip():
                events += self._line(line)
        return events

    def finish(self) -> list[Event]:
        """The stream is over: what is left, and `Failed` where it was cut. Call it once."""
        rest = self._framer.flush().strip()
        events: list[Event] = []
        if not self._over and rest.endswith(b"}"):
            events += self._last_line(rest)
        if not self._over:
            self._over = True
            events.append(Failed.of(truncated()))
        return events

    def _last_line(self, line: bytes) -> list[Event]:
        """A line without its end: the whole of it may have come, or not."""
        try:
            answer_of(line)
        except Fault as fault:
            if fault.kind is Kind.BAD_ANSWER:
                return []
        return self._line(line)

    def _line(self, line: bytes) -> list[Event]:
        try:
            return self._piece(answer_of(line))
        except Fault as fault:
            self._over = True
            return [Failed.of(fault)]

    def _piece(self, members: Members) -> list[Event]:
        events: list[Event] = []
        model, made = members.take("model", STRING), made_ids(members)
        if self._made is None:
            self._made = made  # the time of the answer is that of its first line
        if model and model != self._model:
            self._model = model
            events.append(Opened("", model))
        message = members.inside("message")
        message.take("role", STRING)
        events += self._grow(THOUGHT, message.take(THINKING, STRING))
        events += self._grow(WORDS, message.take(CONTENT, STRING))
        events += [self._add(PICTURE, decode_image(raw)) for raw in message.take(IMAGES, RAWS) or ()]
        for raw in message.take(TOOL_CALLS, RAWS) or ():
            events.append(self._add(CALL, decode_call(raw, f"{self._made}{self._whole[CALL]}", numbered=True)))
        scores = take_scores(members)
        events += [Scored(0, scores)] if scores else []
        done, word, usage = members.take("done", FLAG), members.take("done_reason", STRING), take_usage(members)
        events += self._beside(members)
        if done:
            self._over = True
            events += [PartEnd(0, index) for index in sorted(self._open)]
            events.append(Finished(0, finish_of(word, called=self._whole[CALL] > 0)))
        return [*events, *([Metered(usage)] if usage is not None else [])]

    def _beside(self, members: Members) -> list[Event]:
        """What only this dialect understands; the same is told once."""
        events: list[Event] = []
        for extra in meaningful(members):
            if extra.path[0] in ("message", LOGPROBS):
                events.append(Aside(0, extra))
            elif self._asides.get(extra.path) != extra:
                self._asides[extra.path] = extra
                events.append(Aside(None, extra))
        return events

    def _grow(self, kind: int, text: str | None) -> list[Event]:
        if not text:
            return []
        index = kind * _PER_KIND
        delta = PartDelta(0, index, text)
        if index in self._open:
            return [delta]
        self._open.add(index)
        return [PartStart(0, index, _GROWING[kind]), delta]

    def _add(self, kind: int, part: Part) -> Event:
        """A part that does not grow."""
        index = kind * _PER_KIND + self._whole[kind]
        self._whole[kind] += 1
        self._open.add(index)
        return PartStart(0, index, part)
