"""One file of the journal: its header, its sealed entries, how to read what is left of it. It must not know records.

A segment is 104 bytes of header and then entries, in a file whose blocks were reserved when it was made, so that
writing to its memory map cannot fail for want of disk. All integers are little-endian.

    header  8 bytes magic · u32 version · u32 CRC-32 of the twelve bytes before · u32 mark · u32 CRC-32 of the mark
            u32 size of the file · 72 bytes of the seal (see `codec`) · u32 CRC-32 of the 76 bytes before
    entry   u32 length of the sealed payload · u32 its complement · sealed payload; zeros are the end

The mark is the offset before which every settled entry has reached the store.

An entry is sealed for its offset, and an offset is written once in the life of a segment: entries are only appended,
at `end`, by the process that made the file; a process that finds a segment reads it and begins one of its own, under a
new seal. What was torn is therefore never written over. The copy into the map and the step of `end` are neighbours
without a call in between, so that no signal's exception comes between them.

An entry is written by one slice assignment. A process killed in the midst of it leaves a last entry that does not open,
has a hole, and zeros behind it: that is an end, not damage. Anything else that does not open is damage: other entries
are still read. A length stands there twice, lest one that was changed swallows what follows and looks like such an end.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from ostiary.gateway.ledger.codec import SEAL_HEADER, SEAL_TAG, SegmentSeal

MAGIC = b"OSTIARYJ"
VERSION = 2
SUFFIX = ".journal"
FRESH = ".fresh"  # a segment in the making, without a valid header yet
PROLOGUE = 16  # bytes that headers of all versions have in common: magic, version, their checksum
MARK = PROLOGUE  # offset of the mark in the header
_SIZE = MARK + 8  # offset of the size, with the seal behind it
_SEAL = _SIZE + 4
_CHECK = _SEAL + SEAL_HEADER
HEADER = _CHECK + 4
HEAD = 8
OVERHEAD = HEAD + SEAL_TAG  # bytes that an entry takes beside its payload
# Copies go by eight bytes or more at a time: a copy that was broken off leaves so many zeros, a sealed entry has none.
_HOLE = bytes(8)
_PAIR = struct.Struct("<II")
_U32 = struct.Struct("<I")
_ONES = 0xFFFFFFFF
_head = _PAIR.pack
_PAGE = mmap.ALLOCATIONGRANULARITY


class Segment:
    """A file of the journal in order of `number`; mapped only while it is written to.

    `end` is the offset behind the last entry, `mark` that of the last settled entry saved.
    """

    __slots__ = ("_fd", "_map", "_seal", "end", "mark", "number", "path", "seal", "size")

    def __init__(
        self, number: int, path: Path, size: int, seal: SegmentSeal, end: int = HEADER, mark: int = HEADER
    ) -> None:
        self.number = number
        self.path = path
        self.size = size
        self.seal = seal
        self._seal = seal.seal
        self.end = end
        self.mark = mark
        self._fd = -1
        self._map: mmap.mmap | None = None

    @classmethod
    def create(cls, directory: Path, number: int, size: int, seal: SegmentSeal) -> Segment:
        """A new segment of `size` bytes, which are whole pages, mapped.

        Raises:
            OSError: no room on the disk, or no right to write there. Nothing is left behind.
        """
        segment = cls(number, directory / f"{number:016d}{SUFFIX}", size, seal)
        fresh = segment.path.with_suffix(FRESH)
        segment._fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(segment._fd, 0, size)
            segment._map = mmap.mmap(segment._fd, size)
            segment._map[:HEADER] = _header(size, seal.header)
            fresh.rename(segment.path)
        except BaseException:
            segment.close()
            fresh.unlink(missing_ok=True)
            raise
        return segment

    @property
    def room(self) -> int:
        """Bytes left for entries, heads included."""
        return self.size - self.end

    def write(self, payload: bytes) -> int:
        """Append a payload, sealed for its place, to a mapped segment with room for it; answers its offset."""
        at = self.end
        length = len(payload) + SEAL_TAG
        end = at + HEAD + length
        entry = _head(length, length ^ _ONES) + self._seal(payload, at)
        self._map[at:end] = entry  # type: ignore[index] # only the journal's last segment is written to: it is mapped
        self.end = end  # no call between this line and the one before
        return at

    def payload(self, data: mmap.mmap | bytes, at: int, end: int) -> bytes | None:
        """What is sealed in the entry `data[at:end]`; None where it does not open."""
        return self.seal.open(data[at + HEAD : end], at)

    def data(self) -> mmap.mmap:
        """The bytes of the file."""
        if self._map is not None:
            return self._map
        with self.path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)

    def save_mark(self, mark: int) -> None:
        """Note that every settled entry before `mark` has reached the store."""
        if mark == self.mark:
            return
        self.mark = mark
        if self._map is not None:
            self._map[MARK:_SIZE] = _mark(mark)
        else:
            fd = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.pwrite(fd, _mark(mark), MARK)
            finally:
                os.close(fd)

    def close(self) -> None:
        """Unmap; the file stays."""
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def whole_pages(size: int) -> int:
    """`size` rounded up to what the system maps."""
    return -(-size // _PAGE) * _PAGE


class Header(NamedTuple):
    """What the header of a file says. `sound`: its checksums are right, so that the other fields can be believed.

    `version` is None, and `mark` the beginning, where they cannot be believed by themselves.
    """

    version: int | None
    mark: int
    size: int
    seal: bytes
    sound: bool


def header_of(data: bytes) -> Header:
    """Read the header of a file, whatever is left of it."""
    version = None
    if len(data) >= PROLOGUE and data[:8] == MAGIC and crc32(data[:12]) == _U32.unpack_from(data, 12)[0]:
        version = int(_U32.unpack_from(data, 8)[0])
    if len(data) < HEADER:
        return Header(version, HEADER, 0, b"", sound=False)
    mark, check = _PAIR.unpack_from(data, MARK)
    if check != crc32(data[MARK : MARK + 4]) or mark < HEADER:
        mark = HEADER  # then records are saved again: the store ignores what it has
    sound = version == VERSION and crc32(data[_SIZE:_CHECK]) == _U32.unpack_from(data, _CHECK)[0]
    return Header(version, mark, _U32.unpack_from(data, _SIZE)[0], bytes(data[_SEAL:_CHECK]), sound)


def entries(
    data: mmap.mmap | bytes, start: int, stop: int, seal: SegmentSeal
) -> Iterator[tuple[int, int, bytes | None]]:
    """Offset, end and payload of each entry in `data[start:stop]`; the payload is None where it does not open."""
    at = start
    while at + HEAD <= stop:
        length, complement = _PAIR.unpack_from(data, at)
        if not length and not complement:
            return
        end = at + HEAD + length
        if length ^ complement != _ONES or end > stop:
            yield at, stop, None
            return
        yield at, end, seal.open(data[at + HEAD : end], at)
        at = end


def is_torn(data: bytes, at: int, end: int) -> bool:
    """Whether an entry that does not open is what a process left that was killed while it wrote it."""
    return end < len(data) and _HOLE in data[at + HEAD : end] and only_zeros(data, end)


def only_zeros(data: bytes, start: int) -> bool:
    """Whether nothing was ever written behind `start`."""
    return data.count(0, start) == len(data) - start


def _header(size: int, seal: bytes) -> bytes:
    head = MAGIC + _U32.pack(VERSION)
    rest = _U32.pack(size) + seal
    return head + _U32.pack(crc32(head)) + _mark(HEADER) + rest + _U32.pack(crc32(rest))


def _mark(mark: int) -> bytes:
    return _PAIR.pack(mark, crc32(_U32.pack(mark)))
