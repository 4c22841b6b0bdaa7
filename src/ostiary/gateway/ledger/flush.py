"""The way of settled records from the journal to the store: in order, at least once, for ever trying. It must not drop.

Two pieces. The `Backlog` sits on the request's side: it appends to the journal and keeps the settled record at hand, so
that it need not be read back. When more than `most` records wait, further ones stay in the journal only, and are read
from there when their turn comes: a store that is away for a day costs disk, not memory. The `Flusher` sits on the
store's side: a task that sleeps until something is settled, waits a moment for company, and saves batches.

Records reach the store in the order of their settlement and are let go of only after `save` has returned, so that a
store that fails, or a task cancelled in the midst of `save`, repeats a batch rather than lose it. `save` is idempotent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import islice

from ostiary.core.fault import Fault
from ostiary.core.record import Record
from ostiary.gateway.ledger.journal import Journal, Position
from ostiary.gateway.ports import RecordSink

BATCH = 2000  # records of one transaction: its fixed cost vanishes among them
READ = 500  # records read back from the journal at once, which blocks
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0  # seconds between attempts to save


class Backlog:
    """Settled records that are not saved yet, oldest first.

    `spilled` is the position in the journal from which on records are not at hand, None while all are. `lost` counts
    records that could neither be journaled nor kept: refused requests, while the disk is full and the store away.
    """

    __slots__ = ("_at_hand", "_mark", "_most", "_next", "_wake", "journal", "lost", "spilled")

    def __init__(self, journal: Journal, most: int = 10_000) -> None:
        self.journal = journal
        self._most = most
        self._at_hand: deque[Record] = deque()
        self._mark: tuple[int, Position] | None = None  # after so many more of those at hand, commit that position
        self._next: Position | None = None  # behind the batch read from the journal
        self.spilled = journal.unsaved if journal.unsaved != journal.position else None
        self.lost = 0
        self._wake: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self._at_hand)

    @property
    def empty(self) -> bool:
        """Everything settled is saved."""
        return not self._at_hand and self.spilled is None

    def on_work(self, wake: Callable[[], None]) -> None:
        """Have `wake` called whenever a record is settled."""
        self._wake = wake

    def put(self, record: Record) -> None:
        """Journal a settled record and line it up for the store. Does not raise."""
        at_hand = self._at_hand
        if self.spilled is None and len(at_hand) >= self._most:
            self.spilled = self.journal.position
        try:
            self.journal.append(record)
            journaled = True
        except Fault:
            journaled = False
        if self.spilled is None or (not journaled and len(at_hand) < self._most):
            at_hand.append(record)
        elif not journaled:
            self.lost += 1
        self._wake()

    def batch(self, most: int = BATCH) -> list[Record]:
        """The oldest records that wait, at most `most`; they stay until `saved`."""
        while True:
            self._next = None
            if self._at_hand:
                if self._mark is None:
                    self._mark = len(self._at_hand), self.spilled or self.journal.position
                return list(islice(self._at_hand, most))
            if self.spilled is None:
                return []
            records, self._next = self.journal.read(self.spilled, min(most, READ))
            if records:
                return records
            self._proceed(self._next)

    def saved(self, records: list[Record]) -> None:
        """The last `batch` is in the store."""
        if self._next is not None:
            self._proceed(self._next)
            return
        for _ in records:
            self._at_hand.popleft()
        if not self._at_hand:
            self._mark = None
            self.journal.commit(self.spilled or self.journal.position)
        elif self._mark is not None:
            left, position = self._mark
            self._mark = (left - len(records), position)
            if left <= len(records):
                self._mark = None
                self.journal.commit(position)

    def _proceed(self, position: Position) -> None:
        self._next = None
        self.spilled = position if position != self.journal.position else None
        self.journal.commit(position)


class Flusher:
    """The task that saves what the backlog holds.

    Args:
        backlog: what is settled.
        sink: the store.
        interval: seconds to wait for company after the first record.
        saved: called whenever the backlog has run empty.
        failed: told of each failed attempt, for the log and the metrics.
    """

    __slots__ = ("_backlog", "_failed", "_interval", "_saved", "_saving", "_sink", "_work")

    def __init__(
        self,
        backlog: Backlog,
        sink: RecordSink,
        interval: float = 1.0,
        *,
        saved: Callable[[], None] = lambda: None,
        failed: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        self._backlog = backlog
        self._sink = sink
        self._interval = interval
        self._saved = saved
        self._failed = failed
        self._saving = asyncio.Lock()
        self._work = asyncio.Event()
        backlog.on_work(self._work.set)
        if not backlog.empty:
            self._work.set()

    async def run(self) -> None:
        """Save for ever; ends by cancellation only."""
        while True:
            await self._work.wait()
            await asyncio.sleep(self._interval)
            await self.flush()

    async def flush(self) -> None:
        """Save everything that is settled; returns when nothing waits. Tries for ever: bound it with a timeout."""
        pause = FIRST_PAUSE
        async with self._saving:
            while True:
                self._work.clear()
                try:
                    await self._drain()
                except Exception as error:  # noqa: BLE001 a store may fail in any way: the records stay
                    self._failed(error)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
                else:
                    self._saved()
                    return

    async def _drain(self) -> None:
        while batch := self._backlog.batch():
            await self._sink.save(batch)
            self._backlog.saved(batch)
