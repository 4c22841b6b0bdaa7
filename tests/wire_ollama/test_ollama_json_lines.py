"""JSON lines are framed without touching them, however they are cut, and never more than one is held."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from ollama_kit import cuts

from ostiary.wire.framing.json_lines import JsonLinesFramer

PLACES = st.lists(st.integers(0, 200), max_size=10)
DATA = st.lists(st.sampled_from([b"{}", b"\n", b"\r\n", b"\r", b"abc", b""])).map(b"".join) | st.binary(max_size=100)


def framed(pieces: list[bytes], largest: int = 1000) -> tuple[list[bytes], bytes]:
    framer = JsonLinesFramer(largest)
    return [frame for piece in pieces for frame in framer.feed(piece)], framer.flush()


@given(data=DATA, places=PLACES, largest=st.integers(1, 40))
def test_frames_are_the_same_however_the_stream_was_cut(data: bytes, places: list[int], largest: int) -> None:
    whole = framed([data], largest)
    assert framed(cuts(data, places), largest) == whole
    assert framed([data[i : i + 1] for i in range(len(data))], largest) == whole


@given(data=DATA, places=PLACES, largest=st.integers(1, 40))
def test_joined_frames_are_the_stream_again_and_none_is_larger_than_allowed(
    data: bytes, places: list[int], largest: int
) -> None:
    frames, rest = framed(cuts(data, places), largest)
    assert b"".join(frames) + rest == data
    assert all(len(frame) <= largest for frame in frames)
    assert len(rest) < largest


def test_a_frame_is_a_line_with_its_end() -> None:
    assert framed([b'{"a":1}\r\n\n{"b', b'":2}\n{"c"']) == ([b'{"a":1}\r\n', b"\n", b'{"b":2}\n'], b'{"c"')


def test_what_is_pending_stays_within_bounds_and_is_given_up_once() -> None:
    framer = JsonLinesFramer(largest=8)
    assert framer.feed(b"0123456789") == [b"01234567"]
    assert (framer.flush(), framer.flush()) == (b"89", b"")


def test_a_long_line_in_small_pieces_takes_time_in_proportion() -> None:
    framer = JsonLinesFramer()
    for _ in range(400_000):  # copied at each step, this would be 800 GB
        assert framer.feed(b"0123456789") == []
    (line,) = framer.feed(b"\n")
    assert len(line) == 4_000_001
