"""The local journal of records, which survives SIGKILL at any moment; it must not touch the store or read a clock.

How it works
------------

The journal is a log: a directory of numbered segments (see `segment`), written at one end. A request appears when it is
admitted (outcome OPEN, at its estimate) and again when it is settled; the last entry of an id is valid. Appending is
one copy into a memory map: the page cache belongs to the kernel, so what was appended outlives the process, without a
system call. Power loss is another matter: `sync` bounds what it can take. No byte of a record is readable on the disk:
every segment is sealed under a key of its own, and a segment that is damaged, moved, renamed or another instance's is
put aside.

The reader of the log is the way to the store. It knows a *position*, and says with `commit` that every settled entry
before it is saved. Segments are deleted in order, from the oldest: so no opening can outlive its settlement. Openings
still without settlement are copied to the end of the log before their segment goes, so that a stream of hours does not
hold the disk; new segments have four times the room of all that is open, so that copying cannot crowd out the rest.

Room for the settlement of each open request is kept in the last segment. Only admission can therefore meet a full disk:
it is refused with UNAVAILABLE, and works again when there is room again; requests under way settle undisturbed.

When a journal is opened after a crash, what is open is closed at its estimate, by appending that. Then the log is as if
nothing had happened, and its reader begins at the first settled entry that is not marked as saved.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import msgspec

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.record import Outcome, Record
from ostiary.gateway.ledger.codec import JournalSeal, decode, encode
from ostiary.gateway.ledger.segment import (
    FRESH,
    HEADER,
    OVERHEAD,
    SUFFIX,
    VERSION,
    Header,
    Segment,
    entries,
    header_of,
    is_torn,
    only_zeros,
    whole_pages,
)

DAMAGED = ".damaged"
MEBIBYTE = 1 << 20
SETTLE_ROOM = 512  # bytes by which a settlement may be longer than its opening
_OPEN = Outcome.OPEN
_NO_HEADER = "its header cannot be read"
_FOREIGN = "it was sealed for another number, instance or region"
_NAMES = "[0-9]" * 16 + SUFFIX

Position: TypeAlias = tuple[int, int]  # number of a segment, offset in it


class Journal:
    """The journal in `directory`, which it creates (0700), locks and recovers.

    Args:
        directory: owned by one process at a time.
        now_ms: Unix milliseconds, the `ended` of records that are closed by recovery.
        seal: what seals the segments.
        segment_bytes: size of a segment.
        most_bytes: size of all segments beyond which admission is refused as by a full disk.
        damaged: told the path of a file that was put aside, and why.

    Raises:
        Fault: UNAVAILABLE when another process holds the directory, a segment was written by another version or under
            a key that is not there, or the disk is full. Nothing has been changed then.
    """

    def __init__(
        self,
        directory: Path,
        now_ms: int,
        seal: JournalSeal,
        *,
        segment_bytes: int = 4 * MEBIBYTE,
        most_bytes: int = 1024 * MEBIBYTE,
        damaged: Callable[[Path, str], None] = lambda *_: None,
    ) -> None:
        self._directory = directory
        self._seal = seal
        self._segment_bytes = whole_pages(segment_bytes)
        self._most_bytes = most_bytes
        self._damaged = damaged
        self._closed: deque[Segment] = deque()
        self._unsynced: list[Path] = []
        self._opens: dict[str, tuple[int, int, int]] = {}  # id -> number of segment, offset and length of its entry
        self._promised = 0  # bytes kept for settlements
        self.closed_by_recovery = 0
        self._lock = _lock(directory)
        try:
            self._current = self._first()
        except BaseException:
            os.close(self._lock)
            raise
        try:
            self.unsaved = self._recover(now_ms)
        except BaseException:
            self.close()
            raise

    # -- writing: once per request opened, once per request settled ----------------------------------------------------

    def append(self, record: Record) -> None:
        """Append the record as it is: an opening if its outcome is OPEN, else its settlement.

        Raises:
            Fault: UNAVAILABLE for want of disk. Never for the settlement of a record that was opened.
        """
        payload = encode(record)
        size = OVERHEAD + len(payload)
        known = self._opens.pop(record.id, None)
        if known is not None:
            self._promised -= known[2] + SETTLE_ROOM
        promised = self._promised
        opening = record.outcome is _OPEN
        if opening:
            promised += size + SETTLE_ROOM
        current = self._current
        if current.end + size + promised > current.size and (known is None or opening or current.room < size):
            try:
                self._roll(size + promised, capped=opening)
            except Fault:
                if known is not None:
                    self._opens[record.id] = known
                    self._promised += known[2] + SETTLE_ROOM
                raise
            current = self._current
        at = current.write(payload)
        if opening:
            self._promised = promised
            self._opens[record.id] = (current.number, at, size)

    def _roll(self, need: int, *, capped: bool = False) -> None:
        """Begin a new segment with room for `need` bytes at least."""
        size = max(self._segment_bytes, whole_pages(4 * need))
        last = self._current
        if capped and sum(segment.size for segment in self._closed) + last.size + size > self._most_bytes:
            raise _unwritable("it has reached its greatest size, because the store does not take the records")
        self._current = self._create(last.number + 1, size)
        last.close()
        self._closed.append(last)
        self._unsynced.append(last.path)

    def _create(self, number: int, size: int) -> Segment:
        try:
            return Segment.create(self._directory, number, size, self._seal.begin(number))
        except OSError as error:
            raise _unwritable(os.strerror(error.errno or 0)) from error

    # -- reading: the way to the store ---------------------------------------------------------------------------------

    @property
    def position(self) -> Position:
        """Behind the last entry."""
        return self._current.number, self._current.end

    def read(self, position: Position, limit: int) -> tuple[list[Record], Position]:
        """At most `limit` settled records from `position` on, in order, and the position behind them."""
        records: list[Record] = []
        for segment in (*self._closed, self._current):
            if segment.number < position[0]:
                continue
            start = position[1] if segment.number == position[0] else HEADER
            for _, end, payload in entries(segment.data(), start, segment.end, segment.seal):
                record = _record(payload)
                if record is None or record.outcome is _OPEN:
                    continue
                records.append(record)
                if len(records) == limit:
                    return records, (segment.number, end)
        return records, self.position

    def commit(self, position: Position) -> None:
        """Every settled record before `position` is saved: let go of the disk it took.

        Does not raise for want of disk: then the old segments stay a while longer.
        """
        while self._closed:
            oldest = self._closed[0]
            if position < (oldest.number, oldest.end):
                break
            try:
                kept = not self._carry(oldest)
            except Fault:
                kept = True
            if kept:
                break
            oldest.path.unlink(missing_ok=True)
            self._closed.popleft()
        for segment in (*self._closed, self._current):
            if segment.number < position[0]:
                segment.save_mark(segment.end)
            elif segment.number == position[0]:
                segment.save_mark(position[1])

    def _carry(self, oldest: Segment) -> bool:
        """Seal what is still open in `oldest` anew at the end of the log; False where that can wait."""
        still_open = [(id_, where) for id_, where in self._opens.items() if where[0] == oldest.number]
        if still_open and len(self._closed) < 2 and self._seal.is_current(oldest.seal.header):
            return False
        data = oldest.data() if still_open else b""
        for id_, (_, at, size) in still_open:
            payload = oldest.payload(data, at, at + size)
            if payload is None:  # the disk lost it: nothing else knows of this opening, so its file stays until it ends
                return False
            if self._current.end + size + self._promised > self._current.size:
                self._roll(size + self._promised)
            self._opens[id_] = (self._current.number, self._current.write(payload), size)
        return True

    def renew(self) -> None:
        """Go on in a segment under the current key, if the last one is under an older key.

        What is under the older key goes with the commits that follow.

        Raises:
            Fault: UNAVAILABLE for want of disk or of a key; then the journal goes on as before.
        """
        if not self._seal.is_current(self._current.seal.header):
            self._roll(self._promised)

    async def sync(self) -> None:
        """Write what was appended before this call to the disk itself, in a thread, against the loss of power."""
        paths, self._unsynced = [*self._unsynced, self._current.path], []
        await asyncio.to_thread(_sync, [*paths, self._directory])

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(segment.size for segment in self._closed) + self._current.size

    def close(self) -> None:
        """Unmap and unlock. The files stay; the next to open them goes on from there."""
        self._current.close()
        os.close(self._lock)

    # -- recovery ------------------------------------------------------------------------------------------------------

    def _first(self) -> Segment:
        """The segment that this process begins with, numbered behind all there are; refuses what it cannot read."""
        for path in self._directory.glob(_NAMES):
            self._refuse_unreadable(path)
        for fresh in self._directory.glob(f"*{FRESH}"):
            fresh.unlink()
        numbers = [int(path.name[:16]) for path in self._directory.glob(_NAMES + "*")]
        return self._create(max(numbers, default=0) + 1, self._segment_bytes)

    def _recover(self, now_ms: int) -> Position:
        """Read what an earlier process left and close what is open; answers the position of what is not saved."""
        paths = sorted(self._directory.glob(_NAMES))
        paths.remove(self._current.path)
        still_open: dict[str, Record] = {}
        aside = [(path, why) for path in paths if (why := self._load(path, still_open))]
        for record in still_open.values():
            self.append(closed_by_kill(record, now_ms))
        self.closed_by_recovery = len(still_open)
        for path, why in aside:  # not before what they held is in the log
            self._damaged(path.rename(path.with_name(path.name + DAMAGED)), why)
        unsaved = (self._current.number, HEADER)
        for segment in reversed(self._closed):
            if segment.mark < segment.end:
                unsaved = (segment.number, segment.mark)
        self.commit(unsaved)
        return unsaved

    def _refuse_unreadable(self, path: Path) -> None:
        """Whatever is sound and cannot be read here stays as it is: with the right program and key it can be."""
        header = _header(path)
        if header.version not in (None, VERSION):
            why = f"has format version {header.version}; this program reads version {VERSION}"
            remedy = "Start the version that wrote it once, so that it can bring its records home"
        elif header.sound and not self._seal.knows(header.seal):
            why = f"is sealed under the key {header.seal[:8].hex()}, which this instance does not have"
            remedy = "Restore the keystore and the master key that it was written with"
        else:
            return
        raise Fault(
            Kind.UNAVAILABLE,
            f"The journal segment {path} {why}. {remedy}, or move the file away.",
            origin=Origin.GATEWAY,
        )

    def _load(self, path: Path, still_open: dict[str, Record]) -> str:
        """Add a segment to the log and follow what is open; of a damaged one, copy what is settled.

        Answers the damage, or "".
        """
        data = path.read_bytes()
        header = header_of(data)
        seal = self._seal.resume(int(path.stem), header.seal)
        if seal is None:
            return _FOREIGN if header.sound else _NO_HEADER
        why = "" if header.sound else _NO_HEADER
        if not why and header.size != len(data):
            why = "it was cut short, or made longer"
        settled: list[Record] = []
        at = end = HEADER
        torn = False
        for at, end, payload in entries(data, HEADER, len(data), seal):
            record = _record(payload)
            if record is None:
                torn = not why and payload is None and is_torn(data, at, end)
                why = why or ("" if torn else "an entry does not open")
            elif record.outcome is _OPEN:
                still_open[record.id] = record
            else:
                still_open.pop(record.id, None)
                if at >= header.mark:
                    settled.append(record)
        if not why and not only_zeros(data, end):
            why = "there is something behind its end"
        if not why:
            end = at if torn else end
            self._closed.append(Segment(int(path.stem), path, len(data), seal, end, header.mark))
        else:
            for record in settled:
                self.append(record)
        return why


def _record(payload: bytes | None) -> Record | None:
    if payload is None:
        return None
    try:
        return decode(payload)
    except ValueError:
        return None


def closed_by_kill(record: Record, now_ms: int) -> Record:
    """The settlement of a request whose process was killed: at its estimate."""
    outcome = Outcome.TRUNCATED if record.first_byte else Outcome.FAILED
    return msgspec.structs.replace(record, outcome=outcome, fault="process_killed", measured=False, ended=now_ms)


def recover(directory: Path, now_ms: int, seal: JournalSeal) -> list[Record]:
    """What a journal that nobody has open holds unsaved, after recovery. The next to open it finds the same again."""
    journal = Journal(directory, now_ms, seal)
    try:
        return journal.read(journal.unsaved, sys.maxsize)[0]
    finally:
        journal.close()


def _lock(directory: Path) -> int:
    """An exclusive lock on the directory, held as long as the descriptor is open."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Fault(
            Kind.UNAVAILABLE, f"The journal in {directory} is in use by another process.", origin=Origin.GATEWAY
        ) from None
    return lock


def _header(path: Path) -> Header:
    with path.open("rb") as file:
        return header_of(file.read(HEADER))


def keys_in_use(directory: Path) -> set[bytes]:
    """The ids (8 bytes) of the keys that the segments of a journal are sealed under, whoever has it open.

    A journal key must not be destroyed while it is named here. A damaged header names nothing.
    """
    headers = []
    for path in directory.glob(_NAMES):
        with contextlib.suppress(FileNotFoundError):  # saved and deleted meanwhile
            headers.append(_header(path))
    return {header.seal[:8] for header in headers if header.sound}


def _unwritable(why: str) -> Fault:
    return Fault(Kind.UNAVAILABLE, f"The usage journal cannot be written: {why}.", origin=Origin.GATEWAY)


def _sync(paths: list[Path]) -> None:
    for path in paths:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # saved and deleted meanwhile
            continue
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
