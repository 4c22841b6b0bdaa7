"""How a record becomes bytes, and the port to what seals them. It must not know files, nor how sealing is done.

A seal belongs to one segment. Its header (72 bytes: key id, salt, commitment) stands in the segment's own; from it, and
the segment's number, the same seal is made again.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from ostiary.core.record import Record

SEAL_HEADER = 72  # bytes
SEAL_TAG = 16  # bytes by which a payload grows

encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Record)


class SegmentSeal(Protocol):
    """Seals the entries of one segment. No offset may be sealed for twice."""

    header: bytes

    def seal(self, payload: bytes, at: int) -> bytes:
        """The payload, sealed for this offset."""
        ...

    def open(self, sealed: bytes, at: int) -> bytes | None:
        """The payload, None where it was not sealed for this offset of this segment."""
        ...


class JournalSeal(Protocol):
    """Makes the seals of segments."""

    def begin(self, number: int) -> SegmentSeal:
        """For a segment that is made now, under the current key. Raises Fault where there is none."""
        ...

    def resume(self, number: int, header: bytes) -> SegmentSeal | None:
        """For a segment that was made before; None where the header is not of this number and instance, or the key that
        it names is not there."""
        ...

    def is_current(self, header: bytes) -> bool:
        """Whether a segment is sealed under the current key."""
        ...

    def knows(self, header: bytes) -> bool:
        """Whether the key that a segment is sealed under is there."""
        ...


def decode(payload: bytes) -> Record:
    """The record. Raises ValueError."""
    try:
        return _decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise ValueError("not a record") from error
