"""An event stream is cut into messages as botocore cuts it, however the bytes arrive, and rubbish is told."""

from __future__ import annotations

import itertools
import struct
import uuid
from zlib import crc32

from botocore.eventstream import EventStreamBuffer, ParserError
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import Kind
from ostiary.wire.framing.event_stream import EventStreamFramer, Message, write_message

NAMES = st.text(max_size=8)
HEADERS = st.dictionaries(NAMES, st.text(max_size=10), max_size=4)
PLACES = st.lists(st.integers(0, 500))
PACKED = {2: ">b", 3: ">h", 4: ">i", 5: ">q", 8: ">q"}
VALUES = st.one_of(
    st.sampled_from([(0, b""), (1, b"")]),
    *[
        st.integers(-(2 ** (8 * struct.calcsize(form) - 1)), 2 ** (8 * struct.calcsize(form) - 1) - 1).map(
            lambda value, kind=kind, form=form: (kind, struct.pack(form, value))
        )
        for kind, form in PACKED.items()
    ],
    st.binary(max_size=9).map(lambda value: (6, struct.pack(">H", len(value)) + value)),
    st.text(max_size=5).map(lambda value: (7, struct.pack(">H", len(value.encode())) + value.encode())),
    st.binary(min_size=16, max_size=16).map(lambda value: (9, value)),
)  # fmt: skip
ODD_VALUES = st.tuples(st.integers(0, 255), st.binary(max_size=6))


def by_hand(headers: list[tuple[str, tuple[int, bytes]]], payload: bytes) -> bytes:
    """A message with headers of any type, written without the code under test."""
    said = b"".join(
        bytes([len(name.encode())]) + name.encode() + bytes([kind]) + value for name, (kind, value) in headers
    )
    start = struct.pack(">II", 16 + len(said) + len(payload), len(said))
    message = start + struct.pack(">I", crc32(start)) + said + payload
    return message + struct.pack(">I", crc32(message))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(marks)]


def framed(pieces: list[bytes]) -> tuple[list[Message], Kind | None, int]:
    framer = EventStreamFramer()
    found = [message for piece in pieces for message in framer.feed(piece)]
    return found, framer.fault.kind if framer.fault is not None else None, framer.pending


def by_botocore(data: bytes) -> tuple[list[tuple[dict[str, object], bytes]], bool]:
    """The messages that botocore reads, and whether it gives up."""
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    found = []
    try:
        for message in buffer:
            headers = {
                name: value.bytes if isinstance(value, uuid.UUID) else value for name, value in message.headers.items()
            }
            found.append((headers, message.payload))
    except (ParserError, struct.error, KeyError, ValueError):
        return found, True
    return found, False


@given(headers=HEADERS, payload=st.binary(max_size=40))
def test_botocore_reads_what_is_written_and_so_do_we(headers: dict[str, str], payload: bytes) -> None:
    data = write_message(headers, payload)
    assert by_botocore(data) == ([(headers, payload)], False)
    ((message,), fault, pending) = framed([data])
    assert (message.headers, message.payload, message.raw, fault, pending) == (headers, payload, data, None, 0)


MESSAGES = st.builds(
    by_hand, st.lists(st.tuples(NAMES, VALUES), max_size=4, unique_by=lambda header: header[0]), st.binary(max_size=20)
)


@given(messages=st.lists(MESSAGES, max_size=4), places=PLACES)
def test_headers_of_every_type_are_read_as_botocore_reads_them_and_the_cuts_do_not_matter(
    messages: list[bytes], places: list[int]
) -> None:
    data = b"".join(messages)
    found, fault, pending = framed([data])
    assert ([(dict(message.headers), message.payload) for message in found], False) == by_botocore(data)
    assert [message.raw for message in found] == messages
    assert (fault, pending) == (None, 0)
    assert framed(cut(data, places)) == (found, None, 0)
    assert framed([data[i : i + 1] for i in range(len(data))]) == (found, None, 0)


ODD_MESSAGES = st.builds(by_hand, st.lists(st.tuples(NAMES, VALUES | ODD_VALUES), max_size=3), st.binary(max_size=9))


@given(messages=st.lists(ODD_MESSAGES, min_size=1, max_size=3), places=PLACES)
def test_headers_that_are_none_or_stand_twice_are_a_fault_and_what_came_before_counts(
    messages: list[bytes], places: list[int]
) -> None:
    data = b"".join(messages)
    found, fault, _ = framed([data])
    theirs, gave_up = by_botocore(data)
    if not gave_up:
        assert [(dict(message.headers), message.payload) for message in found] == theirs or fault is not None
    else:
        assert fault is Kind.BAD_ANSWER
    assert framed(cut(data, places))[:2] == (found, fault)


@given(messages=st.lists(MESSAGES, min_size=1, max_size=3), place=st.integers(0), flip=st.integers(1, 255))
def test_one_wrong_byte_is_never_read_over(messages: list[bytes], place: int, flip: int) -> None:
    data = bytearray(b"".join(messages))
    data[place % len(data)] ^= flip
    found, fault, pending = framed([bytes(data)])
    assert fault is Kind.BAD_ANSWER or pending > 0
    assert all(message.raw in messages for message in found)


@given(data=st.binary(max_size=100), places=PLACES)
def test_arbitrary_bytes_are_messages_or_a_fault(data: bytes, places: list[int]) -> None:
    found, fault, pending = framed([data])
    assert fault in (None, Kind.BAD_ANSWER)
    assert fault is not None or b"".join(message.raw for message in found) + data[len(data) - pending :] == data
    assert framed(cut(data, places))[:2] == (found, fault)


def test_a_message_longer_than_may_be_is_refused_by_its_first_bytes_so_that_memory_stays_bounded() -> None:
    framer = EventStreamFramer(largest=100)
    assert len(framer.feed(write_message({}, b"x" * 84))) == 1
    assert framer.feed(write_message({}, b"x" * 85)[:12]) == []
    assert framer.fault is not None
    assert framer.feed(write_message({}, b"")) == []
    assert framer.pending == 0


def test_the_length_of_headers_must_fit_the_message() -> None:
    start = struct.pack(">II", 16, 1)
    assert framed([start + struct.pack(">I", crc32(start)) + b"\0" * 4])[1] is Kind.BAD_ANSWER
