"""Records beyond their time are deleted, in steps that nobody has to wait for. It must not touch the sums.

Sums by day stay, and so do models' names. End users and tags go with the last record that had them, unless something
is set for them: what their sums of older days are called then is their id.

There is no state to lose: what is interrupted goes on at the next turn, and several processes may do it at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import Table, and_, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault
from ostiary.store.database import Database
from ostiary.store.names import LABELS, NameKind, Names
from ostiary.store.partitions import drop_expired, ensure_around
from ostiary.store.schema.ledger import end_users, tags, usage, usage_labels
from ostiary.store.usage import DAY_MILLISECONDS

FEWEST, MOST = 100, 10_000  # rows of one step
LONG, SHORT = 0.030, 0.015  # seconds: a step that takes longer, or less, is followed by a smaller or larger one
PAUSE = 0.005  # seconds between two steps at least; else as long as the step took
PAGE = 200  # labels looked at together
PAGES = 500  # of one turn and kind; the next turn goes on behind them
A_DAY = 86_400.0
AGAIN = 60.0  # seconds until a turn that failed is tried again

_TABLES: dict[NameKind, Table] = {"end_user": end_users, "tag": tags}
_Place = tuple[str, int]


class Purged(msgspec.Struct, frozen=True):
    """What one turn removed. Rows of dropped partitions are not counted one by one."""

    partitions: int = 0
    rows: int = 0
    labels: int = 0
    longest: float = 0.0  # seconds of the longest transaction


class Rules(msgspec.Struct, frozen=True):
    """How long records are kept, and how often that is looked after: a day at most. None keeps them for ever."""

    keep: float | None = None
    every: float = A_DAY


class Retention:
    """The task that keeps the ledger as short as it is meant to be.

    Args:
        database: an open, migrated database.
        names: the dictionaries; the one that the ledger writes with.
        clock: tells how old records are.
        rules: asked anew before every turn.
        done: told what a turn removed.
        failed: told why one could not be finished.
    """

    def __init__(
        self,
        database: Database,
        names: Names,
        clock: Clock,
        rules: Callable[[], Rules],
        *,
        done: Callable[[Purged], None] = lambda _purged: None,
        failed: Callable[[Fault], None] = lambda _fault: None,
    ) -> None:
        self._database = database
        self._names = names
        self._clock = clock
        self._rules = rules
        self._done = done
        self._failed = failed
        self._sleep = asyncio.sleep
        self._size = FEWEST
        self._longest = 0.0
        self._seen: dict[NameKind, _Place] = dict.fromkeys(LABELS, ("", 0))

    async def run(self) -> None:
        """Turn after turn, until cancelled. Each also makes the months to come, where the database has any."""
        while True:
            rules, now = self._rules(), self._clock.now()
            pause = min(rules.every, A_DAY)
            try:
                await ensure_around(self._database, int(now * 1000))
                if rules.keep is not None:
                    self._done(await self.purge(int((now - rules.keep) * 1000)))
            except Fault as fault:
                self._failed(fault)
                pause = min(pause, AGAIN)
            await self._sleep(pause)

    async def purge(self, before: int) -> Purged:
        """Delete every record that started before this time (Unix milliseconds), and what nothing refers to then.

        Raises:
            Fault: UNAVAILABLE; what is deleted stays deleted.
        """
        self._longest = 0.0
        partitions = await drop_expired(self._database, before)
        rows = 0
        while True:
            size = self._size
            found = await self._step(partial(_delete_some, before=before, size=size))
            rows += found
            if found < size:
                break
        labels = 0
        for kind in LABELS:
            labels += await self._forget_labels(kind, before)
        return Purged(partitions, rows, labels, self._longest)

    async def _step(self, work: Callable[[AsyncConnection], Awaitable[int]]) -> int:
        """One transaction, then a pause as long as it took: at least half of the time is the others'."""
        async with self._database.write() as connection:
            began = time.perf_counter()  # waiting for a turn is nobody's burden
            count = await work(connection)
        took = time.perf_counter() - began
        self._longest = max(self._longest, took)
        if took > LONG:
            self._size = max(FEWEST, self._size // 2)
        elif took < SHORT and count == self._size:
            self._size = min(MOST, self._size * 3 // 2)
        await asyncio.sleep(max(PAUSE, took))
        return count

    async def _forget_labels(self, kind: NameKind, before: int) -> int:
        count = 0
        for _ in range(PAGES):
            page = await self._page(kind, before)
            if not page:
                self._seen[kind] = ("", 0)
                break
            self._seen[kind] = page[-1]
            async with self._database.read() as connection:
                unused = await _unused(connection, kind, page, before)
            if unused:
                count += await self._step(partial(self._forget, kind=kind, unused=unused, before=before))
        return count

    async def _page(self, kind: NameKind, before: int) -> list[_Place]:
        table = _TABLES[kind]
        query = (
            select(table.c.org_id, table.c.id)
            .where(
                tuple_(table.c.org_id, table.c.id) > tuple_(*self._seen[kind]),
                table.c.created_at < before,
                table.c.revision == 1,  # nothing was set for it
            )
            .order_by(table.c.org_id, table.c.id)
            .limit(PAGE)
        )
        async with self._database.read() as connection:
            return [(org_id, number) for org_id, number in await connection.execute(query)]

    async def _forget(self, connection: AsyncConnection, kind: NameKind, unused: Sequence[_Place], before: int) -> int:
        """Those that are still unused once nobody can refer to them anew."""
        await self._names.lock(connection, kind, unused)
        gone = await _unused(connection, kind, unused, before)
        if gone:
            await self._names.forget(connection, kind, gone)
        return len(gone)


async def _delete_some(connection: AsyncConnection, before: int, size: int) -> int:
    """The oldest records, `size` of them if there are as many."""
    place = (usage.c.started, usage.c.id)
    oldest = select(*place).where(usage.c.started < before).order_by(*place).offset(size - 1).limit(1)
    last = (await connection.execute(oldest)).first()
    condition = usage.c.started < before
    if last is not None:
        condition = and_(usage.c.started <= last.started, tuple_(*place) <= tuple_(last.started, last.id))
    return int((await connection.execute(delete(usage).where(condition))).rowcount)


async def _unused(connection: AsyncConnection, kind: NameKind, places: Sequence[_Place], before: int) -> list[_Place]:
    """Those labels that no day has on which there are records. The sums by day tell, so that no record is read."""
    by_org: dict[str, list[int]] = defaultdict(list)
    for org_id, number in places:
        by_org[org_id].append(number)
    used: set[_Place] = set()
    table: Any = usage_labels.c
    for org_id, numbers in by_org.items():
        query = (
            select(table.label)
            .where(table.org_id == org_id, table.kind == kind, table.label.in_(numbers))
            .where(table.day >= before // DAY_MILLISECONDS)
            .distinct()
        )
        used.update((org_id, number) for (number,) in await connection.execute(query))
    return [place for place in places if place not in used]
