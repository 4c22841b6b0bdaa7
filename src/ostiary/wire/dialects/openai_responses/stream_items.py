"""An item of a stream as it is being told. It must not know which events tell of it."""

from __future__ import annotations

import msgspec

from ostiary.wire.conversation.events import Cited, Event, PartDelta, PartEnd, PartStart
from ostiary.wire.conversation.members import Members
from ostiary.wire.conversation.parts import Part, Reasoning, Refusal, Seal, Text, ToolCall, UnknownPart
from ostiary.wire.conversation.reply import Score
from ostiary.wire.conversation.unknown import Rest
from ostiary.wire.dialects.openai_responses.items import ARGUMENTS, PIECES, RAW_MARK, following, leftover
from ostiary.wire.dialects.openai_responses.marks import item_mark, item_marked, ordered, with_item
from ostiary.wire.dialects.openai_responses.parts import CONTENT, RAW, STRING

MESSAGE, REASONING = "message", "reasoning"
MOST_ITEMS = 1 << 16
RAW_PIECES = 1 << 15  # where the pieces of raw reasoning have their places, after those of a summary
_PER_ITEM = 1 << 16  # the index of a part: its item's place times this, plus its own within the item


class Item:
    """What has been told of one item.

    Attributes:
        base: the index of its first part.
        kind: its type; "" where it is not known.
        name: as the provider names it; "" where it does not.
        parts: what has come of the text of each part, by place within the item.
        held: arguments of a call whose name is not known.
        cited: how many citations of each part have been told.
        scores: chances that came with deltas.
        done: it is whole.

    Args:
        follows: the item before is a message.
    """

    def __init__(self, place: int, kind: str, *, follows: bool) -> None:
        self.base = place * _PER_ITEM
        self.kind = kind
        self.name = ""
        self.parts: dict[int, list[str]] = {}
        self.held: list[str] = []
        self.cited: dict[int, int] = {}
        self.scores: list[Score] = []
        self.done = False
        self.called = False
        self._follows = follows
        self._rest: Rest = ()
        self._open: int | None = None

    def read(self, members: Members) -> Part | None:
        """Take what an item says of itself when it begins; the part that begins with it, if one does."""
        if self.kind in ARGUMENTS:
            call_id, name = members.take("call_id", STRING), members.take("name", STRING)
            if call_id is None or name is None:
                return None
            members.take(ARGUMENTS[self.kind], RAW)
            rest = leftover(members, keep=False)
            return ToolCall(call_id, name, "", self.kind == "custom_tool_call", rest)
        for known in (*PIECES, CONTENT, "role", "encrypted_content"):
            members.take(known, RAW)
        if self.kind in (MESSAGE, REASONING):
            self._rest = with_item(leftover(members, keep=False, binding=frozenset(PIECES)))
        return None

    def sub(self, place: int | None, *, raw: bool, begin: bool = False) -> int:
        """The place of a part within the item; where it is not told, the last of its kind, or the next."""
        low = RAW_PIECES if raw else 0
        if place is not None and 0 <= place < RAW_PIECES:
            return low + place
        known = [sub for sub in self.parts if (sub >= RAW_PIECES) == raw]
        return min(max(known, default=low - 1 if begin else low) + begin, low + RAW_PIECES - 1)

    def part(self, part: Part, *, raw: bool) -> Part:
        """A part that begins here, with what it has to say of the item."""
        if not isinstance(part, (Text, Refusal, Reasoning)):
            return part
        marks = [item_mark(RAW_MARK)] if raw and not item_marked(part.rest, RAW_MARK) else []
        if not self.parts:
            part = msgspec.structs.replace(part, rest=ordered(part.rest, self._rest, marks))
            return following(part) if self._follows else part
        if isinstance(part, Reasoning):
            marks.append(item_mark("more"))
        return msgspec.structs.replace(part, rest=ordered(part.rest, marks))

    def following(self, part: Part) -> Part:
        """A whole part of the item, which says of it what there is to say but for what came before the item."""
        return following(part) if self._follows and not self.parts else part

    def start(self, sub: int, part: Part) -> list[Event]:
        """A part begins, with what has come of it; the one before has ended."""
        events = self.end(None)
        self._open = sub
        text = "" if isinstance(part, UnknownPart) else part.arguments if isinstance(part, ToolCall) else _text(part)
        self.parts[sub] = [text]
        self.called = self.called or isinstance(part, ToolCall)
        if isinstance(part, Reasoning):
            part = msgspec.structs.replace(part, seal=None)  # it stands with the end
        if isinstance(part, Text):
            self.cited[sub] = len(part.citations)
        events.append(PartStart(0, self.base + sub, part))
        if self.held and isinstance(part, ToolCall) and not text:
            self.parts[sub] = list(self.held)
            events.append(PartDelta(0, self.base + sub, "".join(self.held)))
        return events

    def catch_up(self, sub: int, whole: str | None) -> list[Event]:
        """The rest of a part's text, now that all of it is known."""
        told = "".join(self.parts[sub])
        if whole is None or len(whole) <= len(told) or not whole.startswith(told):
            return []
        more = whole[len(told) :]
        self.parts[sub].append(more)
        return [PartDelta(0, self.base + sub, more)]

    def complete(self, sub: int, part: Part) -> list[Event]:
        """What a whole part says that has not been told."""
        if isinstance(part, UnknownPart):
            return []
        events = self.catch_up(sub, part.arguments if isinstance(part, ToolCall) else _text(part))
        if isinstance(part, Text):
            events += [Cited(0, self.base + sub, citation) for citation in part.citations[self.cited.get(sub, 0) :]]
        return events

    def placed(self, parts: list[Part]) -> list[tuple[int, Part]]:
        """Whole parts of the item, with their places in it."""
        pieces, raws = 0, RAW_PIECES
        out: list[tuple[int, Part]] = []
        for part in parts[: RAW_PIECES - 1]:
            if isinstance(part, Reasoning) and item_marked(part.rest, RAW_MARK):
                out.append((raws, part))
                raws += 1
            else:
                out.append((pieces, part))
                pieces += 1
        if self.parts and any(isinstance(part, UnknownPart) and part.place != CONTENT for part in parts):
            return []  # its parts have been told; that the whole is not of the documented shape comes too late
        return [(sub, part) for sub, part in out if not (isinstance(part, Reasoning) and part.hidden and self.parts)]

    def end(self, seal: Seal | None) -> list[Event]:
        """The part that is open is whole."""
        sub, self._open = self._open, None
        return [] if sub is None else [PartEnd(0, self.base + sub, seal)]


def _text(part: Part) -> str:
    return part.text if isinstance(part, (Text, Refusal, Reasoning)) else ""
