"""One file of the journal: its header, its entries, and how to read what is left of it. It must not know records.

A segment is 24 bytes of header and then entries, in a file whose blocks were reserved when it was made, so that writing
to its memory map cannot fail for want of disk. All integers are little-endian.

    header  8 bytes magic · u32 version · u32 CRC-32 of the twelve bytes before · u32 mark · u32 CRC-32 of the mark
    entry   u32 length · u32 CRC-32 of the payload · payload; a length of zero is the end

The mark is the offset before which every settled entry has reached the store. An entry is written by one slice
assignment. A process killed in the midst of it leaves a last entry whose checksum does not match and zeros behind it:
that is an end, not damage. Anything else that does not match is damage: entries with a right checksum are still read.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

MAGIC = b"OSTIARYJ"
VERSION = 1
SUFFIX = ".journal"
FRESH = ".fresh"  # a segment in the making, without a valid header yet
HEADER = 24
MARK = 16  # offset of the mark in the header
HEAD = struct.Struct("<II")
_U32 = struct.Struct("<I")
_PAGE = mmap.ALLOCATIONGRANULARITY


class Segment:
    """A file of the journal in order of `number`; mapped only while it is written to.

    `end` is the offset behind the last entry, `mark` that of the last settled entry saved.
    """

    __slots__ = ("_fd", "_map", "end", "mark", "number", "path", "size")

    def __init__(self, number: int, path: Path, size: int, end: int = HEADER, mark: int = HEADER) -> None:
        self.number = number
        self.path = path
        self.size = size
        self.end = end
        self.mark = mark
        self._fd = -1
        self._map: mmap.mmap | None = None

    @classmethod
    def create(cls, directory: Path, number: int, size: int) -> Segment:
        """A new segment of `size` bytes, which are whole pages, mapped.

        Raises:
            OSError: no room on the disk, or no right to write there. Nothing is left behind.
        """
        segment = cls(number, directory / f"{number:016d}{SUFFIX}", size)
        fresh = segment.path.with_suffix(FRESH)
        segment._fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(segment._fd, 0, size)
            segment._map = mmap.mmap(segment._fd, size)
            head = MAGIC + _U32.pack(VERSION)
            segment._map[:HEADER] = head + _U32.pack(crc32(head)) + _mark(HEADER)
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

    def write(self, entry: bytes) -> int:
        """Append a whole entry to a mapped segment with room for it; answers its offset."""
        at = self.end
        end = at + len(entry)
        self._map[at:end] = entry  # type: ignore[index] # only the journal's last segment is written to: it is mapped
        self.end = end
        return at

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
            self._map[MARK:HEADER] = _mark(mark)
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


def version_of(header: bytes) -> int | None:
    """The format version of a file with this header, or None if it has none that can be believed."""
    if len(header) < MARK or header[:8] != MAGIC or crc32(header[:12]) != _U32.unpack_from(header, 12)[0]:
        return None
    return int(_U32.unpack_from(header, 8)[0])


def mark_of(header: bytes) -> int:
    """The mark, or the beginning where it cannot be believed: the store ignores what it has."""
    if len(header) < HEADER:
        return HEADER
    mark, check = HEAD.unpack_from(header, MARK)
    return mark if check == crc32(header[MARK : MARK + 4]) and mark >= HEADER else HEADER


def entry_of(payload: bytes) -> bytes:
    """An entry as it is written."""
    return HEAD.pack(len(payload), crc32(payload)) + payload


def entries(data: mmap.mmap | bytes, start: int, stop: int) -> Iterator[tuple[int, int, bytes | None]]:
    """Offset, end and payload of each entry in `data[start:stop]`; the payload is None where it cannot be believed."""
    at = start
    while at + HEAD.size <= stop:
        length, check = HEAD.unpack_from(data, at)
        if not length:
            return
        end = at + HEAD.size + length
        if end > stop:
            yield at, stop, None
            return
        payload = data[at + HEAD.size : end]
        yield at, end, payload if crc32(payload) == check else None
        at = end


def only_zeros(data: bytes, start: int) -> bool:
    """Whether nothing was ever written behind `start`."""
    return data.count(0, start) == len(data) - start


def _mark(mark: int) -> bytes:
    return HEAD.pack(mark, crc32(_U32.pack(mark)))
