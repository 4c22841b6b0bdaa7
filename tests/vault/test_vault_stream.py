"""A sealed stream opens whole and in order on its own instance, and in no other way."""

from __future__ import annotations

import io
import os
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import Fault
from ostiary.vault.stream import About, StreamBroken, StreamOpener, StreamSealer, stream_key_id

KEY = bytes(range(32))
ABOUT = About(instance="0190-a", region="eu", schema="0001", made_at=1_700_000_000_000, master="ABCDEFGHIJ")
PARTS = [b"first", b"", b"third" * 100, b"last"]


def sealed(parts: list[bytes], about: About = ABOUT, key: bytes = KEY) -> tuple[bytes, list[bytes]]:
    """The head and the frames of a stream."""
    sealer = StreamSealer(key, about)
    frames = [sealer.seal(part, last=number == len(parts) - 1) for number, part in enumerate(parts)]
    return sealer.head, frames


def opened(data: bytes, *keys: bytes) -> list[bytes]:
    return list(StreamOpener(io.BytesIO(data)).chunks(keys or (KEY,)))


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=8))
def test_what_was_sealed_opens_again(parts: list[bytes]) -> None:
    head, frames = sealed(parts)
    assert opened(head + b"".join(frames)) == parts


def test_the_head_can_be_read_without_a_key_and_the_rest_cannot() -> None:
    head, frames = sealed([b"a secret of some length"])
    opener = StreamOpener(io.BytesIO(head + frames[0]))
    assert (opener.about, opener.key_id) == (ABOUT, stream_key_id(KEY, ABOUT.instance))
    assert b"a secret" not in head + frames[0]
    assert KEY not in head
    assert KEY.hex().encode() not in head


def test_two_streams_of_the_same_chunks_have_nothing_in_common() -> None:
    (one, first), (other, second) = sealed([b"same" * 20]), sealed([b"same" * 20])
    assert one != other
    assert first[0][4:20] != second[0][4:20]


Change = Callable[[list[bytes]], list[bytes]]
CHANGES: dict[str, Change] = {
    "the end is cut off": lambda f: f[:-1],
    "only the head is left": lambda f: [],
    "two parts change places": lambda f: [f[1], f[0], *f[2:]],
    "a part comes twice": lambda f: [f[0], *f],
    "a part is missing": lambda f: [f[0], *f[2:]],
    "another part claims to be the last": lambda f: [f[0], bytes((f[1][0] | 0x80,)) + f[1][1:]],
    "the last part claims to be none": lambda f: [*f[:-1], bytes((f[-1][0] & 0x7F,)) + f[-1][1:]],
    "something follows": lambda f: [*f, b"x"],
    "the whole follows once more": lambda f: [*f, *f],
    "a length has no end": lambda f: [b"\x7f\xff\xff\xff"],
    "a part is too short to be one": lambda f: [b"\x80\x00\x00\x03abc"],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_cry_02_a_stream_that_was_put_together_otherwise_is_refused(change: Change) -> None:
    head, frames = sealed(PARTS)
    with pytest.raises(StreamBroken):
        opened(head + b"".join(change(frames)))


def test_cry_01_every_bit_of_a_stream_counts() -> None:
    head, frames = sealed([b"one", b"two"])
    whole = head + b"".join(frames)
    for place in range(len(whole)):
        for bit in range(8):
            changed = bytearray(whole)
            changed[place] ^= 1 << bit
            with pytest.raises(Fault):
                opened(bytes(changed))


def test_cry_01_a_stream_cut_at_any_byte_is_refused() -> None:
    head, frames = sealed([b"one", b"two"])
    whole = head + b"".join(frames)
    for length in range(len(whole)):
        with pytest.raises(StreamBroken):
            opened(whole[:length])


def test_cry_02_a_part_of_another_stream_is_refused() -> None:
    head, frames = sealed(PARTS)
    _, others = sealed(PARTS)
    with pytest.raises(StreamBroken):
        opened(head + frames[0] + others[1] + b"".join(frames[2:]))


@pytest.mark.parametrize("other", [{"instance": "0190-b"}, {"region": "us"}, {"schema": "0002"}, {"made_at": 5}])
def test_cry_02_a_head_that_was_changed_is_refused(other: dict[str, object]) -> None:
    head, frames = sealed(PARTS)
    body = msgspec.json.decode(head[9:])
    body["about"] |= other
    if "instance" in other:  # the key's name follows the instance: a forger would mend it
        body["key_id"] = stream_key_id(KEY, "0190-b")
    forged = msgspec.json.encode(body)
    with pytest.raises(StreamBroken):
        opened(head[:5] + len(forged).to_bytes(4, "big") + forged + b"".join(frames))


def test_a_missing_key_is_named_with_its_master_key() -> None:
    head, frames = sealed(PARTS)
    with pytest.raises(Fault) as refusal:
        opened(head + b"".join(frames), os.urandom(32))
    assert stream_key_id(KEY, ABOUT.instance) in refusal.value.public
    assert "ABCDEFGHIJ" in refusal.value.public


def test_an_older_backup_key_opens_what_it_sealed() -> None:
    head, frames = sealed(PARTS)
    assert opened(head + b"".join(frames), os.urandom(32), KEY) == PARTS


def test_nothing_is_sealed_after_the_last_part() -> None:
    sealer = StreamSealer(KEY, ABOUT)
    sealer.seal(b"the end", last=True)
    with pytest.raises(ValueError, match="ends once"):
        sealer.seal(b"more")


@pytest.mark.parametrize(
    "data", [b"", b"OSBK", b"SQLite format 3\0" * 10, b"OSBK\x02\0\0\0\x02{}", b"OSBK\x01\xff\0\0\0"]
)
def test_what_is_no_backup_is_refused(data: bytes) -> None:
    with pytest.raises(StreamBroken):
        opened(data)
