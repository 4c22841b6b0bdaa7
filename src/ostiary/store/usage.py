"""The ledger at rest: every settled record once, its sums, and what keys spent. It must not count a record twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import attrgetter, itemgetter
from typing import Any, cast

import msgspec
from sqlalchemy import Table, bindparam, select
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.usage import Usage
from ostiary.store.database import Database
from ostiary.store.rows import BIGGEST, MILLISECONDS, SECONDS_PER_DAY, bounded, json_text, storable, window_start
from ostiary.store.tables import key_spend, usage, usage_daily, usage_labels, usage_totals, virtual_keys

CHUNK = 200  # records of one statement: between two the event loop gets its turn
DAY_MILLISECONDS = SECONDS_PER_DAY * MILLISECONDS
LONGEST = 256
SHORT = 64  # fits every text column but those of closed sets

_FAILED = frozenset({Outcome.FAILED, Outcome.TRUNCATED, Outcome.BLOCKED})
_COUNTS = Usage.__struct_fields__
_COLUMNS = [name for name in Record.__struct_fields__ if name not in {"usage", "tags"}]
_TEXTS = [name for name in _COLUMNS if type(getattr(Record(id="", started=0, endpoint=""), name)) is str]
_NUMBERS = [name for name in _COLUMNS if type(getattr(Record(id="", started=0, endpoint=""), name)) is int]
_STORED = [*_COLUMNS, *_COUNTS, "tags"]
_LENGTHS = [(name, getattr(usage.c[name].type, "length", LONGEST)) for name in _TEXTS]
_texts, _numbers, _counts, _columns = (attrgetter(*names) for names in (_TEXTS, _NUMBERS, _COUNTS, _COLUMNS))

Sums = dict[tuple[Any, ...], list[int]]


class UsageRepository:
    """Where settled records go for good (the data plane's `RecordSink`)."""

    def __init__(self, database: Database) -> None:
        self._database = database
        compiled = usage.insert().values({name: bindparam(name) for name in _STORED}).compile(dialect=database.dialect)
        assert compiled.positiontup is not None, "drivers in use bind by position"
        self._insert_text = str(compiled)
        self._in_order = itemgetter(*map(_STORED.index, compiled.positiontup))

    async def save(self, records: Sequence[Record]) -> None:
        """Store records, their sums and their keys' spend in one transaction, each record once by its id.

        Raises:
            Fault: UNAVAILABLE; nothing is stored then, and the same records can be given again.
        """
        if not records:
            return
        async with self._database.write() as connection:
            fresh: dict[str, Record] = {}
            for start in range(0, len(records), CHUNK):
                rows = {row.id: row for row in map(_clean, records[start : start + CHUNK])}
                known = await _known(connection, rows.keys())
                chunk = {name: row for name, row in rows.items() if name not in known and name not in fresh}
                await self._insert(connection, chunk.values())
                fresh.update(chunk)
            daily = _daily(fresh.values())
            await _add(connection, usage_daily, daily)
            await _add(connection, usage_totals, _totals(daily))
            await _add(connection, usage_labels, _labels(fresh.values()))
            await _add(connection, key_spend, await _spend(connection, fresh.values()))

    async def _insert(self, connection: AsyncConnection, records: Iterable[Record]) -> None:
        """All rows in one call of the driver: binding thirty-odd values a row in Python would be half of the work."""
        rows = [
            self._in_order((*_columns(record), *_counts(record.usage), json_text(record.tags))) for record in records
        ]
        if rows:
            await connection.exec_driver_sql(self._insert_text, rows)


def _clean(record: Record) -> Record:
    """The record itself, or, where a request put something into it that not every engine takes, one that is taken.

    A record that cannot be stored would hold up all behind it for ever.
    """
    texts = (*_texts(record), *record.tags)
    numbers = (*_numbers(record), *_counts(record.usage))
    joined = "".join(texts)
    short = max(map(len, texts)) <= SHORT and min(numbers) >= 0 and max(numbers) <= BIGGEST
    if short and joined.isascii() and "\0" not in joined:
        return record
    changes: dict[str, Any] = {name: storable(getattr(record, name), length) for name, length in _LENGTHS}
    changes.update((name, bounded(getattr(record, name))) for name in _NUMBERS)
    changes["tags"] = tuple(storable(tag, LONGEST) for tag in record.tags)
    changes["usage"] = Usage(**{name: bounded(getattr(record.usage, name)) for name in _COUNTS})
    return msgspec.structs.replace(record, **changes)


async def _known(connection: AsyncConnection, ids: Iterable[str]) -> set[str]:
    query = select(usage.c.id).where(usage.c.id.in_(bindparam("ids", expanding=True)))
    return {name for (name,) in await connection.execute(query, {"ids": list(ids)})}


def _daily(records: Iterable[Record]) -> Sums:
    sums: Sums = {}
    for record in records:
        failed, unpriced = record.outcome in _FAILED, record.price is PriceState.UNKNOWN
        used = record.usage
        counts = (
            1, not failed, failed, unpriced,
            used.input, used.output, used.cache_read, used.cache_creation, used.reasoning, record.cost,
        )  # fmt: skip
        place = (
            record.started // DAY_MILLISECONDS, record.key_id, record.user_id, record.team_id, record.organization_id,
            record.model, record.upstream_model, record.provider, record.endpoint,
        )  # fmt: skip
        total = sums.get(place)
        sums[place] = [a + b for a, b in zip(total, counts, strict=True)] if total else list(counts)
    return sums


def _totals(daily: Sums) -> Sums:
    """The daily sums without the four columns of owners that follow the day."""
    sums: Sums = {}
    for place, counts in daily.items():
        total = sums.get((place[0], *place[5:]))
        sums[place[0], *place[5:]] = [a + b for a, b in zip(total, counts, strict=True)] if total else counts
    return sums


def _labels(records: Iterable[Record]) -> Sums:
    sums: Sums = defaultdict(lambda: [0] * 3)
    for record in records:
        labels = {("tag", tag) for tag in record.tags if tag}
        if record.end_user:
            labels.add(("end_user", record.end_user))
        for kind, label in labels:
            total = sums[kind, record.started // DAY_MILLISECONDS, label]
            total[0] += 1
            total[1] += record.usage.total
            total[2] += record.cost
    return sums


async def _spend(connection: AsyncConnection, records: Iterable[Record]) -> Sums:
    """Cost by key and budget window, for the keys that exist."""
    priced = [record for record in records if record.cost]
    ids = sorted({record.key_id for record in priced})
    windows: dict[str, tuple[int, int | None]] = {}
    query = select(virtual_keys.c.id, virtual_keys.c.budget_from, virtual_keys.c.budget_seconds)
    for start in range(0, len(ids), CHUNK):
        found = await connection.execute(query.where(virtual_keys.c.id.in_(ids[start : start + CHUNK])))
        windows.update((key_id, (anchor, seconds)) for key_id, anchor, seconds in found)
    sums: Sums = defaultdict(lambda: [0])
    for record in priced:
        if record.key_id in windows:
            sums[record.key_id, window_start(*windows[record.key_id], record.started)][0] += record.cost
    return sums


async def _add(connection: AsyncConnection, table: Table, sums: Sums) -> None:
    """Add sums to a table whose primary key is the place and whose other columns are the counts, in key order."""
    places = [column.name for column in table.primary_key]
    counts = [column.name for column in table.c if column.name not in places]
    statement = sqlite_insert(table)
    statement = statement.on_conflict_do_update(
        index_elements=places,
        set_={name: table.c[name] + cast("Any", statement.excluded)[name] for name in counts},
    )
    rows = [dict(zip((*places, *counts), (*place, *sums[place]), strict=True)) for place in sorted(sums)]
    for start in range(0, len(rows), CHUNK):
        await connection.execute(statement, rows[start : start + CHUNK])
