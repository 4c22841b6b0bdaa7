"""The order of events holds whatever a provider sends: lines lost, doubled, swapped or from another stream.

A part begins once, grows only while it is open, is cited once it has begun, and ends once; a choice finishes once;
after a failure nothing follows. Every encoder can tell every such order, or refuses it by a fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from golden_corpus import of_kind
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.core.fault import Fault
from ostiary.wire.conversation.conversation import Conversation
from ostiary.wire.conversation.events import Cited, Event, Failed, Finished, PartDelta, PartEnd, PartStart
from ostiary.wire.dialect import Answering
from ostiary.wire.registry import DIALECTS

ASKED = Answering(id="golden", created=1, model="m", asked=Conversation(model="m", messages=()))
STREAMS = {
    dialect: [wire for file in of_kind("stream") if file.dialect == dialect and (wire := file.wire())]
    for dialect in DIALECTS
}
BINARY = "bedrock_converse"


def pieces(dialect: str, data: bytes) -> list[bytes]:
    """A stream as its events, each with its end."""
    if dialect == BINARY:
        found, start = [], 0
        while start < len(data):
            size = int.from_bytes(data[start : start + 4], "big")
            found.append(data[start : start + size])
            start += size
        return found
    return re.findall(rb".*?\n\n|.+\Z" if dialect != "ollama_chat" else rb".*?\n|.+\Z", data, re.DOTALL)


def mixed(dialect: str) -> st.SearchStrategy[bytes]:
    """Streams of the corpus with lines lost, doubled, swapped and taken from each other."""
    lines = [pieces(dialect, data) for data in STREAMS[dialect]]

    @st.composite
    def made(draw: st.DrawFn) -> bytes:
        told = list(draw(st.sampled_from(lines)))
        for _ in range(draw(st.integers(0, 4))):
            place = draw(st.integers(0, len(told)))
            match draw(st.sampled_from(["lose", "double", "swap", "other"])):
                case "lose":
                    del told[place : place + 1]
                case "double":
                    told[place:place] = told[place : place + 1]
                case "swap":
                    told[place : place + 2] = reversed(told[place : place + 2])
                case _:
                    other = draw(st.sampled_from(lines))
                    told.insert(place, draw(st.sampled_from(other)))
        return b"".join(told)

    return made()


def check_order(events: Iterable[Event]) -> None:
    opened: set[tuple[int, int]] = set()
    closed: set[tuple[int, int]] = set()
    finished: set[int] = set()
    failed = False
    for event in events:
        assert not failed, "something follows a failure"
        match event:
            case PartStart(choice, index):
                assert (choice, index) not in opened | closed, "a part begins twice"
                opened.add((choice, index))
            case PartDelta(choice, index):
                assert (choice, index) in opened, "a part grows that is not open"
            case Cited(choice, index):
                assert (choice, index) in opened | closed, "a part is cited that has not begun"
            case PartEnd(choice, index):
                assert (choice, index) in opened, "a part ends that is not open"
                opened.discard((choice, index))
                closed.add((choice, index))
            case Finished(choice):
                assert choice not in finished, "a choice finishes twice"
                finished.add(choice)
            case Failed():
                failed = True


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if STREAMS[name]])
@settings(deadline=None)
@given(data=st.data())
def test_events_are_in_order_whatever_comes(dialect: str, data: st.DataObject) -> None:
    stream = data.draw(mixed(dialect))
    decoder = DIALECTS[dialect].decoder()
    events = [*decoder.feed(stream), *decoder.finish()]
    check_order(events)
    for other in DIALECTS.values():
        encoder = other.encoder(ASKED)
        try:
            for event in events:
                encoder.encode(event)
            encoder.end()
        except Fault:
            continue
