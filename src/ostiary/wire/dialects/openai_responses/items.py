"""The items a model makes, to the pivot's parts: messages, reasoning and calls. It must not know requests from replies.

Source: official Python SDK 3.54, `types.responses` (`ResponseOutputItem` and what it names). An item becomes one part
or several; of several the first carries what belongs to the item. Each piece of a summary, and of raw reasoning, is a
`Reasoning` of its own; the proof stands with the last. Every other kind of item is an `UnknownPart`.

The reasoning of others comes back with their proof in `encrypted_content`; a proof that belongs to the part that
follows is an item of reasoning that says nothing (see `wire.conversation.seals`).
"""

from __future__ import annotations

import msgspec

from ostiary.wire.conversation.members import EMPTY_LIST, Members
from ostiary.wire.conversation.parts import Content, Part, Reasoning, Refusal, Seal, Text, ToolCall, UnknownPart
from ostiary.wire.conversation.reply import Score
from ostiary.wire.conversation.seals import carried
from ostiary.wire.conversation.unknown import Extra, Rest
from ostiary.wire.dialects.openai_responses.marks import DIALECT, item_mark, ordered, with_item
from ostiary.wire.dialects.openai_responses.parts import CONTENT, RAW, RAWS, STRING, decode_part, is_plain, meaningful
from ostiary.wire.dialects.openai_responses.scores import take_scores

OUTPUT = "output"
NAMED = frozenset({"id", "status"})  # how the service knows its items again: nobody else knows them
# The kinds of calls, and the member that holds what the model wrote for them.
ARGUMENTS = {"function_call": "arguments", "custom_tool_call": "input"}
# The pieces of reasoning: the member they stand in, their type, and where that type is not the usual, the mark for it.
SUMMARY, REASONED = "summary", "content"
PIECES = {SUMMARY: "summary_text", REASONED: "reasoning_text"}
RAW_MARK = "raw"


class Told(msgspec.Struct):
    """What an item says.

    `ahead`: a proof for the part that follows; the item is no more than that. `words`: it is a message, and one that
    follows it directly is another.
    """

    parts: list[Part]
    scores: list[Score] = []
    ahead: Seal | None = None
    words: bool = False


class Run:
    """Items that follow each other, as the parts of one turn.

    Args:
        keep: what identifies an item and what says nothing is kept too, as it is for requests.
    """

    def __init__(self, *, keep: bool) -> None:
        self.parts: list[Part] = []
        self.scores: list[Score] = []
        self._keep = keep
        self._ahead: Seal | None = None
        self._words = False

    def add(self, raw: msgspec.Raw) -> None:
        """One more item."""
        told = decode_item(raw, keep=self._keep)
        self.scores += told.scores
        if told.ahead is not None:
            self._ahead, self._words = told.ahead, False
            return
        if told.parts and self._ahead is not None:
            told.parts[0] = sealed(told.parts[0], self._ahead)
            self._ahead = None
        if told.words and self._words and told.parts:
            told.parts[0] = following(told.parts[0])
        self._words = told.words
        self.parts += told.parts


def sealed(part: Part, seal: Seal) -> Part:
    """A part with the proof that came ahead of it; one that can have none goes without."""
    return msgspec.structs.replace(part, seal=seal) if isinstance(part, (Text, ToolCall)) else part


def following(part: Part) -> Part:
    """The first part of a message that directly follows another."""
    if isinstance(part, (Text, Refusal)):
        return msgspec.structs.replace(part, rest=ordered(part.rest, (item_mark("next"),)))
    return part


def decode_item(raw: msgspec.Raw, *, keep: bool) -> Told:
    """One item that a model made."""
    members = Members.of(raw)
    told = None
    if members is not None:
        kind = members.take("type", STRING)
        if kind in ARGUMENTS:
            told = _call(kind, members, keep=keep)
        elif kind == "reasoning":
            told = _reasoning(members, keep=keep)
        elif kind == "message" or (kind is None and "type" not in members):
            told = _message(members, untyped=kind is None, keep=keep)
    return told if told is not None else Told([UnknownPart(DIALECT, OUTPUT, raw)])


def leftover(members: Members, *, keep: bool, binding: frozenset[str] = frozenset()) -> Rest:
    """What is left of an item."""
    if keep:
        return members.rest(DIALECT, binding, NAMED)
    for name in NAMED:
        members.take(name, RAW)
    return meaningful(members.rest(DIALECT, binding))


def _call(kind: str, members: Members, *, keep: bool) -> Told | None:
    call_id, name = members.take("call_id", STRING), members.take("name", STRING)
    written = members.take(ARGUMENTS[kind], STRING)
    if call_id is None or name is None or written is None:
        return None
    return Told([ToolCall(call_id, name, written, kind == "custom_tool_call", leftover(members, keep=keep))])


def _message(members: Members, *, untyped: bool, keep: bool) -> Told | None:
    if members.take("role", STRING) != "assistant":
        return None
    marks: list[Extra] = [item_mark("untyped")] if untyped and keep else []
    words = members.take(CONTENT, STRING)
    if words is not None:
        rest = ordered(with_item(leftover(members, keep=keep)), marks)
        return Told([Text(words, rest)], words=True)
    raws = members.take(CONTENT, RAWS)
    if not raws:
        return Told([], words=False) if raws is not None and not keep else None
    scores: list[Score] = []
    parts = [_said(raw, scores, keep=keep) for raw in raws]
    if not isinstance(parts[0], (Text, Refusal)):
        return None
    if keep and is_plain(tuple(parts)):
        marks.append(item_mark("list"))
    rest = ordered(parts[0].rest, with_item(leftover(members, keep=keep)), marks)
    parts[0] = msgspec.structs.replace(parts[0], rest=rest)
    return Told(list(parts), scores, words=True)


def _said(raw: msgspec.Raw, scores: list[Score], *, keep: bool) -> Content:
    part = decode_part(raw, "output_text")
    if keep or not isinstance(part, (Text, Refusal)):
        return part
    part, found = take_scores(part)
    scores += found
    return msgspec.structs.replace(part, rest=meaningful(part.rest))


def _reasoning(members: Members, *, keep: bool) -> Told | None:
    pieces: list[Part] = []
    marks: list[Extra] = []
    if SUMMARY not in members and keep:
        marks.append(item_mark("bare"))
    for name, kind in PIECES.items():
        raws = members.take(name, RAWS)
        if raws == [] and name == REASONED:
            members.put_back(name, EMPTY_LIST)
        found = [piece(raw, kind) for raw in raws or ()]
        told = [thought for thought in found if thought is not None]
        if len(told) < len(found):
            return None
        pieces += told
    proof = members.take("encrypted_content", STRING)
    if SUMMARY in members and keep:
        return None  # a summary that is no list
    seal, ahead = carried(proof, DIALECT) if proof is not None else (None, False)
    if seal is not None and not seal.issuer:
        seal = None  # see `unproven`
    if ahead and not pieces:
        return Told([], ahead=seal)
    rest = ordered(with_item(leftover(members, keep=keep, binding=frozenset(PIECES))), marks)
    if not pieces:
        if seal is None and not keep:
            return Told([])
        pieces = [Reasoning("", hidden=True)]
    if keep and seal is None and not rest:
        rest = (item_mark("own"),)
    return Told(whole_reasoning(pieces, rest, seal))


def piece(raw: msgspec.Raw, kind: str) -> Reasoning | None:
    """A piece of reasoning of this type; None for what is none."""
    members = Members.of(raw)
    if members is None or members.take("type", STRING) != kind:
        return None
    text = members.take("text", STRING)
    if text is None:
        return None
    marks = [item_mark(RAW_MARK)] if kind == PIECES[REASONED] else []
    return Reasoning(text, rest=ordered(members.rest(DIALECT), marks))


def whole_reasoning(pieces: list[Part], rest: Rest, seal: Seal | None) -> list[Part]:
    """The pieces of one item: the first has what belongs to the item, the last the proof."""
    out: list[Part] = []
    for number, thought in enumerate(pieces):
        assert isinstance(thought, Reasoning)
        more = rest if number == 0 else (item_mark("more"),)
        proof = seal if number == len(pieces) - 1 else None
        out.append(msgspec.structs.replace(thought, rest=ordered(thought.rest, more), seal=proof))
    return out
