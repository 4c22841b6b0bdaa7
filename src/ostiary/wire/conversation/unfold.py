"""From a reply to the events that tell it: `fold` the other way round. It must not leave anything out."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ostiary.wire.conversation.events import (
    Aside,
    Cited,
    Event,
    Finished,
    Metered,
    Opened,
    PartDelta,
    PartEnd,
    PartStart,
    Scored,
)
from ostiary.wire.conversation.parts import Part, Reasoning, Refusal, Text, ToolCall
from ostiary.wire.conversation.reply import Choice, Reply


def unfold(reply: Reply) -> Iterator[Event]:
    """The events of a whole answer, choice by choice and part by part; usage comes last. Proofs of words and calls
    stand at their start, where every dialect has a place for them."""
    yield Opened(reply.id, reply.model, reply.tier)
    for extra in reply.rest:
        yield Aside(None, extra)
    for choice in reply.choices:
        yield from _choice(choice)
    if reply.usage is not None:
        yield Metered(reply.usage)


def _choice(choice: Choice) -> Iterator[Event]:
    for index, part in enumerate(choice.parts):
        yield from _part(choice.index, index, part)
    for extra in choice.rest:
        yield Aside(choice.index, extra)
    if choice.scores:
        yield Scored(choice.index, choice.scores)
    yield Finished(choice.index, choice.finish)


def _part(choice: int, index: int, part: Part) -> Iterator[Event]:
    match part:
        case Text(text=text):
            yield PartStart(choice, index, msgspec.structs.replace(part, text="", citations=()))
            if text:
                yield PartDelta(choice, index, text)
            for citation in part.citations:
                yield Cited(choice, index, citation)
            yield PartEnd(choice, index)
        case Reasoning(text=text):
            yield PartStart(choice, index, msgspec.structs.replace(part, text="", seal=None))
            if text:
                yield PartDelta(choice, index, text)
            yield PartEnd(choice, index, part.seal)
        case Refusal(text=text):
            yield PartStart(choice, index, msgspec.structs.replace(part, text=""))
            if text:
                yield PartDelta(choice, index, text)
            yield PartEnd(choice, index)
        case ToolCall(arguments=text):
            yield PartStart(choice, index, msgspec.structs.replace(part, arguments=""))
            if text:
                yield PartDelta(choice, index, text)
            yield PartEnd(choice, index)
        case _:
            yield PartStart(choice, index, part)
            yield PartEnd(choice, index)
