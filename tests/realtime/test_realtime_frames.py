"""RFC 6455 frames: any split gives equal messages, what is encoded is read again, and any bytes end in order."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.wire.framing.websocket import (
    BAD_DATA,
    BINARY,
    CLOSE,
    CONTINUATION,
    MOST_FRAGMENTS,
    NO_CODE,
    PING,
    PONG,
    PROTOCOL,
    TEXT,
    TOO_BIG,
    Closing,
    Event,
    Message,
    Ping,
    Pong,
    Violation,
    WebSocketFramer,
    accept_of,
    encode_close,
    encode_frame,
    is_key,
    masked,
    may_be_sent,
)

LARGEST = 100_000
MASKS = st.binary(min_size=4, max_size=4)
ROLES = st.booleans()


@st.composite
def traffic(draw: st.DrawFn) -> tuple[bytes, list[Event], bool]:
    """A stream as one side sends it, what it means, and whether it is masked."""
    is_masked = draw(ROLES)
    stream, meant = b"", list[Event]()

    def frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
        return encode_frame(opcode, payload, draw(MASKS) if is_masked else b"", final=final)

    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(["text", "binary", "long", "fragments", "ping", "pong"]))
        if kind in ("ping", "pong"):
            payload = draw(st.binary(max_size=125))
            stream += frame(PING if kind == "ping" else PONG, payload)
            meant.append(Ping(payload) if kind == "ping" else Pong(payload))
        elif kind == "long":
            payload = b"x" * draw(st.sampled_from([125, 126, 127, 65535, 65536]))
            stream += frame(TEXT, payload)
            meant.append(Message(payload, text=True))
        elif kind == "fragments":
            payload = draw(st.text(min_size=1)).encode()
            cuts = sorted(draw(st.lists(st.integers(0, len(payload)), min_size=1, max_size=4)))
            pieces = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
            for index, piece in enumerate(pieces):
                last = index == len(pieces) - 1
                stream += frame(CONTINUATION if index else TEXT, piece, final=last)
                if not last and draw(st.booleans()):  # a control frame may stand within a message
                    stream += frame(PING, b"now")
                    meant.append(Ping(b"now"))
            meant.append(Message(payload, text=True))
        else:
            payload = draw(st.text()).encode() if kind == "text" else draw(st.binary())
            stream += frame(TEXT if kind == "text" else BINARY, payload)
            meant.append(Message(payload, text=kind == "text"))
    return stream, meant, is_masked


def read(stream: bytes, *, masked: bool, cuts: list[int] | None = None) -> list[Event]:
    framer = WebSocketFramer(masked=masked, largest=LARGEST)
    events: list[Event] = []
    places = [0, *sorted(cuts or []), len(stream)]
    for start, end in itertools.pairwise(places):
        events += framer.feed(stream[start:end])
    return events


@given(traffic())
def test_what_is_encoded_is_read_again(sent: tuple[bytes, list[Event], bool]) -> None:
    stream, meant, is_masked = sent
    assert read(stream, masked=is_masked) == meant


@given(traffic(), st.data())
def test_any_split_gives_equal_events(sent: tuple[bytes, list[Event], bool], data: st.DataObject) -> None:
    stream, meant, is_masked = sent
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    assert read(stream, masked=is_masked, cuts=cuts) == meant
    if len(stream) < 400:
        assert read(stream, masked=is_masked, cuts=list(range(len(stream)))) == meant


@given(st.binary(max_size=400), ROLES)
def test_any_bytes_give_messages_or_one_end_and_no_more_than_what_came_is_held(data: bytes, is_masked: bool) -> None:
    framer = WebSocketFramer(masked=is_masked, largest=50)
    events = framer.feed(data)
    assert framer.pending <= len(data)
    ends = [event for event in events if isinstance(event, Closing | Violation)]
    assert ends == events[len(events) - len(ends) :]
    assert len(ends) <= 1
    assert framer.ended is bool(ends)
    for end in ends:
        if isinstance(end, Violation):
            assert end.code in (PROTOCOL, BAD_DATA, TOO_BIG)
        assert framer.feed(data) == []
        assert framer.pending == 0


@given(st.binary(max_size=300), MASKS)
def test_a_mask_laid_twice_is_none(data: bytes, mask: bytes) -> None:
    once = masked(data, mask)
    assert once == bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
    assert masked(once, mask) == data


@given(st.integers(0, 0xFFFF), st.text(max_size=80))
def test_a_close_is_read_as_it_was_meant_or_cannot_be_written(code: int, reason: str) -> None:
    if code == NO_CODE:
        assert read(encode_close(code), masked=False) == [Closing(NO_CODE, "")]
    elif may_be_sent(code):
        (end,) = read(encode_close(code, reason), masked=False)
        assert isinstance(end, Closing)
        assert end.code == code
        assert reason.startswith(end.reason)
    else:
        with pytest.raises(ValueError, match="may not be sent"):
            encode_close(code)
        (wrong,) = read(encode_frame(CLOSE, code.to_bytes(2)), masked=False)
        assert isinstance(wrong, Violation)


BREACHES = {
    "reserved bit": (b"\xc1\x80\0\0\0\0", PROTOCOL),
    "unknown opcode": (b"\x83\x80\0\0\0\0", PROTOCOL),
    "unmasked": (encode_frame(TEXT, b"x"), PROTOCOL),
    "fragmented ping": (encode_frame(PING, b"", b"mask", final=False), PROTOCOL),
    "long ping": (encode_frame(PING, b"x" * 126, b"mask"), PROTOCOL),
    "goes on without a beginning": (encode_frame(CONTINUATION, b"x", b"mask"), PROTOCOL),
    "begins twice": (encode_frame(TEXT, b"x", b"mask", final=False) + encode_frame(TEXT, b"x", b"mask"), PROTOCOL),
    "long form of a short length": (b"\x81\xfe\0\x01\0\0\0\0x", PROTOCOL),
    "longer form still": (b"\x81\xff" + (200).to_bytes(8) + b"\0\0\0\0", PROTOCOL),
    "close of one byte": (encode_frame(CLOSE, b"x", b"mask"), PROTOCOL),
    "close with 1005": (encode_frame(CLOSE, (1005).to_bytes(2), b"mask"), PROTOCOL),
    "close with words that are none": (encode_frame(CLOSE, b"\x03\xe8\xff", b"mask"), BAD_DATA),
    "not text": (encode_frame(TEXT, b"\xff", b"mask"), BAD_DATA),
    "half a character": (encode_frame(TEXT, "€".encode()[:2], b"mask"), BAD_DATA),
    "announced too long": (b"\x81\xff" + (LARGEST + 1).to_bytes(8), TOO_BIG),
    "announced absurdly long": (b"\x81\xff" + b"\xff" * 8, TOO_BIG),
    "too many fragments": (
        encode_frame(TEXT, b"", b"mask", final=False)
        + encode_frame(CONTINUATION, b"", b"mask", final=False) * MOST_FRAGMENTS,
        TOO_BIG,
    ),
    "too long in pieces": (
        encode_frame(TEXT, b"x" * LARGEST, b"mask", final=False) + encode_frame(CONTINUATION, b"x", b"mask"),
        TOO_BIG,
    ),
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_ends_the_connection_with_the_code_that_names_it(name: str) -> None:
    stream, code = BREACHES[name]
    (end,) = read(stream, masked=True)
    assert isinstance(end, Violation)
    assert end.code == code
    assert read(stream, masked=True, cuts=list(range(min(len(stream), 64)))) == [end]


def test_a_masked_frame_of_a_server_is_refused() -> None:
    (end,) = read(encode_frame(TEXT, b"x", b"mask"), masked=False)
    assert isinstance(end, Violation)
    assert end.code == PROTOCOL


def test_characters_may_be_cut_by_fragments() -> None:
    euro = "€".encode()
    stream = encode_frame(TEXT, euro[:1], final=False) + encode_frame(CONTINUATION, euro[1:])
    assert read(stream, masked=False) == [Message(euro, text=True)]


def test_the_example_of_the_specification() -> None:
    key = b"dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455, section 1.3
    assert is_key(key)
    assert accept_of(key) == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize("key", [b"", b"abc", b"dGhlIHNhbXBsZSBub25jZQ", b"dGhlIHNhbXBsZSBub25jZR==", b"\xff" * 24])
def test_what_is_no_key_is_seen(key: bytes) -> None:
    assert not is_key(key)
