"""Usage by month on PostgreSQL, so that old months go at once. It must not be needed: a row without a month of its own
is kept in the default partition and moves when its month is made.

On SQLite there are no partitions: nothing is made, listed or dropped.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from sqlalchemy import func, select, text

from ostiary.store.database import Database

AHEAD_MONTHS = 2
_PREFIX = "usage_p"
# Moving rows out of the default partition takes as long as there are rows.
_ENSURE_SECONDS = 600.0
_DROP_SECONDS = 60.0
_LIST = text(
    "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
    " WHERE inhparent = to_regclass('usage') AND relname LIKE 'usage\\_p%' ORDER BY relname"
)


class Month(msgspec.Struct, frozen=True):
    """One partition: from `first_ms` on, and before `end_ms`. Unix milliseconds, months of UTC."""

    name: str
    first_ms: int
    end_ms: int


async def ensure(database: Database, first_ms: int, last_ms: int) -> int:
    """Make the months from that of `first_ms` to that of `last_ms`; how many were made. Rows that wait for them move.

    Raises:
        Fault: UNAVAILABLE, also when readers keep the lock for two seconds; nothing is made then.
    """
    if not _divided(database):
        return 0
    async with database.write(seconds=_ENSURE_SECONDS) as connection:
        made = await connection.execute(select(func.ostiary_ensure_partition(first_ms, last_ms)))
        return int(made.scalar_one())


async def ensure_around(database: Database, now_ms: int) -> int:
    """Make the month of `now_ms`, the one before and the next ones."""
    first = month_of(now_ms)
    before, last = month_of(first.first_ms - 1), first
    for _ in range(AHEAD_MONTHS):
        last = month_of(last.end_ms)
    return await ensure(database, before.first_ms, last.first_ms)


async def months(database: Database) -> list[Month]:
    """Those that there are, the oldest first."""
    if not _divided(database):
        return []
    async with database.read() as connection:
        names = (await connection.execute(_LIST)).scalars().all()
    return [_named(name) for name in names]


async def drop_expired(database: Database, before_ms: int) -> int:
    """Drop all months that ended before, with their rows; how many. The default partition keeps what it has.

    Raises:
        Fault: UNAVAILABLE, also when readers keep the lock for two seconds; nothing is dropped then.
    """
    if not _divided(database):
        return 0
    async with database.write(seconds=_DROP_SECONDS) as connection:
        dropped = await connection.execute(select(func.ostiary_drop_partitions(before_ms)))
        return int(dropped.scalar_one())


def month_of(at_ms: int) -> Month:
    """The month that a time is in."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return _month(at.year, at.month)


def _named(name: str) -> Month:
    digits = name.removeprefix(_PREFIX)
    return _month(int(digits[:4]), int(digits[4:]))


def _month(year: int, month: int) -> Month:
    first = datetime(year, month, 1, tzinfo=UTC)
    end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return Month(f"{_PREFIX}{year:04}{month:02}", _milliseconds(first), _milliseconds(end))


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp()) * 1000


def _divided(database: Database) -> bool:
    return database.dialect.name == "postgresql"
