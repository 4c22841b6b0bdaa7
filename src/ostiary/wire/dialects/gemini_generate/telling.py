"""One candidate as it is told: parts to events, for streams, whole answers and turns of a history alike.

It must not end what did not end.

Words of one kind that follow each other are one part, until a proof comes or something else is said: streams cut text
anywhere, and the official SDKs keep the pieces as they came in the histories they send. A part with a proof and no
words proves the words before it; where there are none, it is a hidden thought. Citations come with the end, and stand
with the last text.
"""

from __future__ import annotations

import msgspec

from ostiary.wire.conversation.events import Aside, Cited, Event, Finished, PartDelta, PartEnd, PartStart, Scored
from ostiary.wire.conversation.fold import fold
from ostiary.wire.conversation.members import EMPTY_LIST, NULL
from ostiary.wire.conversation.parts import Part, Reasoning, Seal, Text, ToolCall
from ostiary.wire.conversation.reply import Chance, Finish, Reason, Score
from ostiary.wire.conversation.unknown import Extra
from ostiary.wire.dialects.gemini_generate.calls import decode_call
from ostiary.wire.dialects.gemini_generate.citations import GROUNDING, RECITED, decode_citations
from ostiary.wire.dialects.gemini_generate.fields import (
    DIALECT,
    NUMBER,
    RAW,
    RAWS,
    STRING,
    Fields,
    take_thoughts,
)
from ostiary.wire.dialects.gemini_generate.parts import CALL, PARTS, decode_part, kind_of

_WITHHELD = (
    *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT"),
    *("IMAGE_RECITATION", "MODEL_ARMOR", "ESCALATION"),
)
# The reasons that say more than the pivot's keep their word.
_REASONS = {**{word: Reason.CONTENT_FILTER for word in _WITHHELD}, "CONTINUATION": Reason.LENGTH}  # noqa: C420
_PLAIN = {"STOP": Reason.STOP, "MAX_TOKENS": Reason.LENGTH, "OTHER": Reason.OTHER}
_WORDS = {
    Reason.STOP: "STOP",
    Reason.TOOL_CALLS: "STOP",
    Reason.LENGTH: "MAX_TOKENS",
    Reason.CONTENT_FILTER: "SAFETY",
    Reason.OTHER: "OTHER",
}
_SAYS_NOTHING = frozenset({NULL, bytes(EMPTY_LIST), b"{}"})
_MOST_CITED = 1 << 20  # characters of a text that are kept for the places of its citations
_BINDING = frozenset({"content"})


def finish_of(word: str, *, called: bool = False) -> Finish:
    """The pivot's reason for a finish reason; Gemini says STOP where it calls functions, too."""
    if word in _PLAIN:
        reason = _PLAIN[word]
        return Finish(Reason.TOOL_CALLS if called and reason is Reason.STOP else reason)
    return Finish(_REASONS.get(word, Reason.OTHER), word, DIALECT)


def word_of(finish: Finish) -> str:
    """The finish reason for the pivot's reason."""
    return finish.word if finish.word and finish.said_by == DIALECT else _WORDS[finish.reason]


class Telling:
    """One candidate.

    Args:
        index: of the choice.
        turn: what tells this answer from others, for the ids of its calls.
    """

    def __init__(self, index: int, turn: str = "") -> None:
        self.finished = False
        self.turn = turn
        self._index = index
        self._next = 0  # the index of the next part
        self._calls = 0
        self._open: Text | Reasoning | None = None  # the part that grows, its words aside
        self._sealed = False
        self._seal: Seal | None = None  # a proof that came after the part's beginning
        self._said: list[str] | None = None  # the words of the text that grows; None where they are too many
        self._length = 0
        self._grounds: dict[str, msgspec.Raw] = {}
        self._left: dict[tuple[str, ...], Extra] = {}
        self._told: dict[tuple[str, ...], Extra] = {}
        self.carried: dict[int, tuple[Reasoning, ...]] = {}  # thoughts that came with a call, by its number

    def chunk(self, candidate: Fields) -> list[Event]:
        """The events of this candidate's share of a chunk, or of its whole."""
        content = candidate.inside("content")
        content.take("role", STRING)
        word = candidate.take("finishReason", STRING)
        events: list[Event] = []
        for raw in content.items(PARTS) or ():
            events += self.part(raw)
        scores = _scores(candidate)
        if scores:
            events.append(Scored(self._index, scores))
        for name in (GROUNDING, RECITED):
            if (grounds := candidate.take(name, RAW)) is not None:
                self._grounds[name] = grounds
        self._leave(candidate)
        if word and not self.finished:
            events += self.end(finish_of(word, called=self._calls > 0))
        elif self.finished:
            events += [*self._cited(), *self.close(), *self._asides()]
        return events

    def end(self, finish: Finish) -> list[Event]:
        """The end of this candidate."""
        self.finished = True
        return [*self._cited(), *self.close(), *self._asides(), Finished(self._index, finish)]

    def part(self, raw: msgspec.Raw) -> list[Event]:
        """One more part."""
        members = Fields.of(raw)
        called = members is not None and kind_of(members) == CALL
        if called and members is not None and (thoughts := take_thoughts(members)):
            self.carried[self._calls] = thoughts
        call = decode_call(members, self.turn, self._calls) if called and members is not None else None
        if call is not None:
            self._calls += 1
            said = [PartDelta(self._index, self._next, call.arguments)] if call.arguments else []
            begun = msgspec.structs.replace(call, arguments="")
            return [*self.close(), PartStart(self._index, self._next, begun), *said, self._ended()]
        part = decode_part(raw, members)
        if not isinstance(part, (Text, Reasoning)):
            return [*self.close(), PartStart(self._index, self._next, part), self._ended()]
        return self._words(part)

    def close(self) -> list[Event]:
        """The end of the part that grows."""
        if self._open is None:
            return []
        seal, self._open, self._seal, self._said = self._seal, None, None, None
        return [PartEnd(self._index, self._next - 1, seal)]

    def _words(self, part: Text | Reasoning) -> list[Event]:
        """Words, which may be none, and the proof that may stand with them."""
        if not part.text and part.seal is None and not part.rest:
            return []
        if self._grows(part):
            self._seal, self._sealed = part.seal, part.seal is not None
            self._keep(part.text)
            return [PartDelta(self._index, self._next - 1, part.text)] if part.text else []
        events = self.close()
        if not part.text and part.seal is not None:
            hidden = Reasoning("", part.seal, part.rest, hidden=True)
            return [*events, PartStart(self._index, self._next, hidden), self._ended()]
        begun = msgspec.structs.replace(part, text="")
        events.append(PartStart(self._index, self._next, begun))
        self._open, self._said, self._length = part, [] if isinstance(part, Text) else None, 0
        self._sealed = part.seal is not None
        self._keep(part.text)
        self._next += 1
        return [*events, PartDelta(self._index, self._next - 1, part.text)] if part.text else events

    def _grows(self, part: Text | Reasoning) -> bool:
        """Whether these words go on with the part that is open."""
        return type(self._open) is type(part) and not self._sealed and not part.rest

    def _keep(self, text: str) -> None:
        if self._said is not None:
            self._said.append(text)
            self._length += len(text)
            if self._length > _MOST_CITED:
                self._said = None

    def _ended(self) -> Event:
        """The end of the part that has just begun."""
        self._next += 1
        return PartEnd(self._index, self._next - 1)

    def _cited(self) -> list[Event]:
        """What grounds the text that is open; where none is, it has no place and is left."""
        grounds, self._grounds = Fields(self._grounds), {}
        found = decode_citations(grounds, None if self._said is None else "".join(self._said))
        self._leave(grounds)
        return [Cited(self._index, self._next - 1, citation) for citation in found]

    def _leave(self, members: Fields) -> None:
        for extra in members.rest(DIALECT, _BINDING):
            if bytes(extra.value) not in _SAYS_NOTHING:
                self._left[extra.path] = extra

    def _asides(self) -> list[Event]:
        """What is left of the candidate and was not told so before; of what was said twice, the last."""
        events: list[Event] = []
        for path, extra in sorted(self._left.items()):
            if self._told.get(path) != extra:
                self._told[path] = extra
                events.append(Aside(self._index, extra))
        return events


def _scores(candidate: Fields) -> tuple[Score, ...]:
    """The chances of words; they are left where they are not told one by one."""
    raw = candidate.object("logprobsResult")
    inner = Fields.of(raw) if raw is not None else None
    if raw is None or inner is None:
        return ()
    chosen = [_chance(one) for one in inner.take("chosenCandidates", RAWS) or ()]
    tops: list[tuple[Chance | None, ...]] = [_top(one) for one in inner.take("topCandidates", RAWS) or ()]
    tops = tops or [()] * len(chosen)
    known = [one for one in chosen if one is not None]
    likely = [tuple(one for one in top if one is not None) for top in tops]
    inner.take("logProbabilitySum", NUMBER)
    if not chosen or not inner.empty or len(known) < len(chosen) or len(tops) != len(chosen) or likely != tops:
        candidate.put_back("logprobsResult", raw)
        return ()
    return tuple(Score(one, top) for one, top in zip(known, likely, strict=True))


def _chance(raw: msgspec.Raw) -> Chance | None:
    members = Fields.of(raw)
    token = members.take("token", STRING) if members is not None else None
    chance = float(members.take("logProbability", NUMBER) or 0) if members is not None else 0.0
    return Chance(token, chance) if token is not None else None


def _top(raw: msgspec.Raw) -> tuple[Chance | None, ...]:
    members = Fields.of(raw)
    return tuple(_chance(one) for one in members.take("candidates", RAWS) or ()) if members is not None else (None,)


def parts_of(raws: list[msgspec.Raw], turn: str = "") -> tuple[Part, ...]:
    """The parts of a model's turn."""
    telling = Telling(0, turn)
    events = [event for raw in raws for event in telling.part(raw)]
    choices = fold([*events, *telling.close()]).choices
    return _restored(choices[0].parts, telling.carried) if choices else ()


def _restored(parts: tuple[Part, ...], carried: dict[int, tuple[Reasoning, ...]]) -> tuple[Part, ...]:
    """The parts with the thoughts that came with calls, where the client did not keep them, before all that followed
    the last call."""
    if not carried:
        return parts
    kept = {part.seal for part in parts if isinstance(part, Reasoning)}
    restored: list[Part] = []
    start = calls = 0
    for part in parts:
        restored.append(part)
        if isinstance(part, ToolCall):
            restored[start:start] = [one for one in carried.get(calls, ()) if one.seal not in kept]
            start, calls = len(restored), calls + 1
    return tuple(restored)
