"""Server-sent events are cut at their blank lines and nowhere else, however the bytes arrive."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.wire.framing.sse import SseFramer, event_data, sse_event

LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
WORDS = st.sampled_from([b"", b"data", b"data:", b"data: ", b": ping", b"x", b"event: e", b"data: {}", b"data:  two"])
MIXED = st.lists(st.one_of(WORDS, LINE_ENDS), max_size=25).map(b"".join)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(marks)]


def framed(pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    framer = SseFramer()
    frames = [frame for piece in pieces for frame in framer.feed(piece)]
    return frames, framer.flush()


def by_the_book(data: bytes) -> list[bytes]:
    """The data of each event as WHATWG HTML 9.2.6 reads a stream, line by line; an unfinished event at the end too."""
    events: list[bytes] = []
    lines: list[bytes] = []
    for line in re.split(rb"\r\n|\n|\r", data):
        if not line:
            if lines:
                events.append(b"\n".join(lines))
            lines = []
        elif line.partition(b":")[0] == b"data":
            value = line.partition(b":")[2]
            lines.append(value.removeprefix(b" "))
    return [*events, b"\n".join(lines)] if lines else events


@given(data=MIXED, places=st.lists(st.integers(0, 500)))
def test_joining_the_frames_gives_the_stream_again_and_the_cuts_do_not_matter(data: bytes, places: list[int]) -> None:
    frames, rest = framed(cut(data, places))
    assert b"".join(frames) + rest == data
    assert (frames, rest) == framed([data])
    assert (frames, rest) == framed([data[i : i + 1] for i in range(len(data))])


@given(data=MIXED)
def test_events_have_the_data_that_the_standard_gives_them(data: bytes) -> None:
    frames, rest = framed([data])
    found = [event_data(frame) for frame in (*frames, rest)]
    assert [said for said in found if said is not None] == by_the_book(data)


@given(data=st.binary(max_size=200), places=st.lists(st.integers(0, 200)))
def test_arbitrary_bytes_are_framed_without_loss(data: bytes, places: list[int]) -> None:
    frames, rest = framed(cut(data, places))
    assert b"".join(frames) + rest == data
    assert all(event_data(frame) is None or isinstance(event_data(frame), bytes) for frame in frames)


def test_an_event_without_end_is_let_go_in_pieces_so_that_memory_stays_bounded() -> None:
    framer = SseFramer(largest=10)
    assert framer.feed(b"data: 0123456789") == [b"data: 0123456789"]
    assert framer.pending == b""
    assert framer.feed(b"\n\ndata: 1\n\n") == [b"\n\n", b"data: 1\n\n"]


def test_an_unfinished_event_keeps_its_last_line_whole() -> None:
    assert event_data(b"data: [DONE]\n: bye\n") == b"[DONE]"


@pytest.mark.parametrize("name", [b"", b"message_stop"])
def test_an_event_that_is_written_is_one_event_whatever_blanks_its_json_has(name: bytes) -> None:
    written = sse_event(b'{\n"a":\r\n\r\n 1}', name)
    (frame,) = SseFramer().feed(written)
    assert frame == written
    data = event_data(frame)
    assert data is not None
    assert json.loads(data) == {"a": 1}
