"""Streams, and whole answers, to the pivot's events. It must not take a truncated stream for a whole one.

Source: official Python SDK 3.4, `types.GenerateContentResponse`: each server-sent event is one, with more of each
candidate; usage is stated so far. There is no mark of the end: an answer is whole when every candidate that has begun
has a finish reason, or when the prompt was blocked and nothing was said, and the transport ended. What comes late, such
as usage, still counts.
"""

from __future__ import annotations

import msgspec

from ostiary.core.fault import Fault
from ostiary.core.usage import Usage
from ostiary.wire.conversation.events import Aside, Event, Failed, Finished, Metered, Opened
from ostiary.wire.conversation.members import EMPTY_LIST, NULL
from ostiary.wire.conversation.reply import Finish, Reason
from ostiary.wire.conversation.unknown import Extra
from ostiary.wire.dialects.gemini_generate.faults import bad_answer, hidden_error, truncated
from ostiary.wire.dialects.gemini_generate.fields import DIALECT, INTEGER, RAW, STRING, Fields
from ostiary.wire.dialects.gemini_generate.telling import Telling
from ostiary.wire.dialects.gemini_generate.usage import WireUsage
from ostiary.wire.framing.sse import SseFramer, event_data

FEEDBACK = "promptFeedback"
_MOST_CHOICES = 128
_SAYS_NOTHING = frozenset({NULL, bytes(EMPTY_LIST), b"{}"})
_usage = msgspec.json.Decoder(WireUsage)


def readable(data: bytes) -> Fields | None:
    """The members of an answer or of a chunk; None for what is no JSON object in UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return None
    return Fields.of(data)


def is_error(members: Fields) -> bool:
    """Whether there is an error instead of an answer."""
    return members.object("error") is not None


class Answer:
    """One answer, in one body or in chunks."""

    def __init__(self) -> None:
        self._choices: dict[int, Telling] = {}
        self._named = ("", "", "")
        self._usage: Usage | None = None
        self._asides: dict[tuple[str, ...], Extra] = {}
        self._blocked = False

    @property
    def whole(self) -> bool:
        """Whether everything that has begun has ended."""
        return self._blocked or (bool(self._choices) and all(choice.finished for choice in self._choices.values()))

    def chunk(self, members: Fields) -> list[Event]:
        """The events of a chunk.

        Raises:
            Fault: BAD_ANSWER where its candidates are none.
        """
        usage = self._metered(members)
        raws = (members.items("candidates") or []) if not self._blocked else []
        feedback = members.object(FEEDBACK)
        if feedback is not None:
            members.put_back(FEEDBACK, feedback)
        reason = _block(feedback) if not raws and not self._choices else ""
        events = self._opened(members, usage)
        members.take("createTime", RAW)
        for extra in members.rest(DIALECT):
            if bytes(extra.value) not in _SAYS_NOTHING and self._asides.get(extra.path) != extra:
                self._asides[extra.path] = extra
                events.append(Aside(None, extra))
        for place, raw in enumerate(raws):
            events += self._candidate(raw, place)
        if reason and not self._blocked:
            self._blocked = True
            events.append(Finished(0, Finish(Reason.CONTENT_FILTER, reason, DIALECT)))
        counted = usage.to_usage() if usage is not None else None
        if counted is not None and counted != self._usage:
            self._usage = counted
            events.append(Metered(counted))
        return events

    def close(self) -> list[Event]:
        """The end of a body: what has no finish reason ends without one."""
        left = (choice for choice in self._choices.values() if not choice.finished)
        return [event for choice in left for event in choice.end(Finish(Reason.OTHER))]

    def _metered(self, members: Fields) -> WireUsage | None:
        usage = members.take("usageMetadata", _usage)
        members.take("usageMetadata", RAW)
        return usage

    def _opened(self, members: Fields, usage: WireUsage | None) -> list[Event]:
        named, model, tier = self._named
        told = members.take("responseId", STRING) or named, members.take("modelVersion", STRING) or model
        now = (*told, (usage.tier if usage is not None else "") or tier)
        if now == self._named:
            return []
        self._named = now
        return [Opened(*now)]

    def _candidate(self, raw: msgspec.Raw, place: int) -> list[Event]:
        candidate = Fields.of(raw)
        index = None if candidate is None else candidate.take("index", INTEGER)
        index = place if index is None else index
        if candidate is None or not 0 <= index < _MOST_CHOICES:
            raise bad_answer()
        telling = self._choices.get(index)
        if telling is None:
            telling = self._choices[index] = Telling(index)
        telling.turn = self._named[0]
        return telling.chunk(candidate)


def _block(feedback: msgspec.Raw | None) -> str:
    members = Fields.of(feedback) if feedback is not None else None
    return (members.take("blockReason", STRING) or "") if members is not None else ""


class StreamDecoder:
    """Reads one stream: bytes in any pieces in, events out."""

    def __init__(self) -> None:
        self._framer = SseFramer()
        self._answer = Answer()
        self._over = False

    @property
    def over(self) -> bool:
        """A failure has come; nothing else ends a stream but the transport."""
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
            events += [] if self._answer.whole else [Failed.of(truncated())]
        return events

    def _event(self, said: bytes) -> list[Event]:
        members = readable(said)
        if members is None or is_error(members):
            self._over = True
            return [Failed.of(bad_answer() if members is None else hidden_error(said))]
        try:
            return self._answer.chunk(members)
        except Fault as fault:
            self._over = True
            return [Failed.of(fault)]
