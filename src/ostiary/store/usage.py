"""The ledger at rest: every settled record once, its sums, and what keys spent. It must not count a record twice.

Every request pays for this, so records travel as columns: taken apart, judged, summed up and put together again by
loops of the interpreter's own, a chunk at a time, so that requests get their turn in between.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain
from operator import add, itemgetter
from typing import Any

import msgspec
from msgspec.structs import astuple
from sqlalchemy import bindparam, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.usage import Usage
from ostiary.store.bulk import CHUNK, Bulk
from ostiary.store.database import Database, unavailable
from ostiary.store.rows import BIGGEST, MILLISECONDS, SECONDS_PER_DAY, bounded, json_text, storable, window_start
from ostiary.store.tables import key_spend, usage, usage_daily, usage_labels, usage_totals, virtual_keys

DAY_MILLISECONDS = SECONDS_PER_DAY * MILLISECONDS
LONGEST = 256
SHORT = 64  # fits every text column but those of closed sets

_FAILED = frozenset({Outcome.FAILED, Outcome.TRUNCATED, Outcome.BLOCKED})
_BLANK = Record(id="", started=0, endpoint="")
_COUNTS = Usage.__struct_fields__
_TEXTS = [name for name in Record.__struct_fields__ if type(getattr(_BLANK, name)) is str]
_NUMBERS = [name for name in Record.__struct_fields__ if type(getattr(_BLANK, name)) is int]
_FLAGS = [name for name in Record.__struct_fields__ if type(getattr(_BLANK, name)) is bool]
_LENGTHS = [(name, getattr(usage.c[name].type, "length", LONGEST)) for name in _TEXTS]
_STORED = [column.name for column in usage.c]
_PLACE = [column.name for column in usage_daily.primary_key]
_SUMMED = [column.name for column in usage_daily.c if column.name not in {*_PLACE, "requests"}]
_TOTAL_PLACE = itemgetter(*(_PLACE.index(column.name) for column in usage_totals.primary_key))

Columns = dict[str, Sequence[Any]]
Place = tuple[Any, ...]


class UsageRepository:
    """Where settled records go for good (the data plane's `RecordSink`)."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._usage = Bulk(usage, database.dialect)
        self._daily, self._totals, self._labels, self._spend = (
            Bulk(table, database.dialect, adding=True) for table in (usage_daily, usage_totals, usage_labels, key_spend)
        )

    async def save(self, records: Sequence[Record]) -> None:
        """Store records, their sums and their keys' spend in one transaction, each record once by its id.

        Raises:
            Fault: UNAVAILABLE; nothing is stored then, and the same records can be given again.
        """
        if not records:
            return
        try:
            await self._write(records, ask=False)
        except IntegrityError:  # some are known: so rare that all is undone, and tried again after a question
            try:
                await self._write(records, ask=True)
            except IntegrityError as error:  # somebody else saved the same records meanwhile
                raise unavailable() from error

    async def _write(self, records: Sequence[Record], *, ask: bool) -> None:
        async with self._database.write() as connection:
            await self._store(connection, await _unknown(connection, records) if ask else records)

    async def _store(self, connection: AsyncConnection, records: Sequence[Record]) -> None:
        sums = _Sums()
        for start in range(0, len(records), CHUNK):
            columns = _storable(records[start : start + CHUNK])
            await self._usage.store(connection, self._rows(columns))
            sums.count(columns)
        await self._daily.store(connection, _rows(sums.daily))
        await self._totals.store(connection, _rows(_to_totals(sums.daily)))
        await self._labels.store(connection, _rows(sums.labels))
        await self._spend.store(connection, _rows(await _windows(connection, sums.paid)))

    def _rows(self, columns: Columns) -> Iterable[tuple[Any, ...]]:
        """The rows of `usage`, in values that drivers take without a second look."""
        plain: dict[str, Iterable[Any]] = {name: map(self._usage.flag, columns[name]) for name in _FLAGS}
        plain["outcome"] = map(_OUTCOMES.__getitem__, columns["outcome"])
        plain["price"] = map(_PRICES.__getitem__, columns["price"])
        plain["tags"] = [json_text(tags) if tags else "[]" for tags in columns["tags"]]
        return zip(*(plain.get(name, columns.get(name)) for name in _STORED), strict=True)


_OUTCOMES = {outcome: outcome.value for outcome in Outcome}
_PRICES = {price: price.value for price in PriceState}


class _Sums:
    """The sums of a batch. Places are the primary keys of their tables; `paid` is (`ended`, `cost`) by key."""

    def __init__(self) -> None:
        self.daily: dict[Place, list[int]] = {}
        self.labels: dict[Place, list[int]] = {}
        self.paid: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def count(self, columns: Columns) -> None:
        """Add the records of a chunk."""
        failed = [outcome in _FAILED for outcome in columns["outcome"]]
        days = [started // DAY_MILLISECONDS for started in columns["started"]]
        derived: Columns = {
            "day": days,
            "failed": failed,
            "ok": [not one for one in failed],
            "unpriced": [price is PriceState.UNKNOWN for price in columns["price"]],
        }
        columns = {**columns, **derived}
        places = zip(*(columns[name] for name in _PLACE), strict=True)
        counts = list(zip(*(columns[name] for name in _SUMMED), strict=True))
        groups = defaultdict(list)
        for place, count in zip(places, counts, strict=True):
            groups[place].append(count)
        _accumulate(self.daily, groups)
        for key_id, ended, cost in zip(columns["key_id"], columns["ended"], columns["cost"], strict=True):
            if cost:
                self.paid[key_id].append((ended, cost))
        if any(columns["tags"]) or any(columns["end_user"]):
            labelled = defaultdict(list)
            for day, tags, end_user, count in zip(days, columns["tags"], columns["end_user"], counts, strict=True):
                for tag in set(tags) if tags else ():
                    labelled["tag", day, tag].append(count)
                labelled["end_user", day, end_user].append(count)
            _accumulate(self.labels, {place: found for place, found in labelled.items() if place[-1]})


def _accumulate(sums: dict[Place, list[int]], groups: dict[Place, list[tuple[int, ...]]]) -> None:
    for place, group in groups.items():
        total = [len(group), *map(sum, zip(*group, strict=True))]
        before = sums.get(place)
        sums[place] = total if before is None else list(map(add, before, total))


def _to_totals(daily: dict[Place, list[int]]) -> dict[Place, list[int]]:
    sums: dict[Place, list[int]] = {}
    for place, counts in daily.items():
        short = _TOTAL_PLACE(place)
        before = sums.get(short)
        sums[short] = counts if before is None else list(map(add, before, counts))
    return sums


def _rows(sums: dict[Place, list[int]]) -> Iterable[tuple[Any, ...]]:
    """In the order of their places: two writers that add to the same rows take them in the same order."""
    return ((*place, *sums[place]) for place in sorted(sums))


def _storable(records: Sequence[Record]) -> Columns:
    """The columns of records, made so that every engine takes them: a request may have put anything into its own.

    A record that cannot be stored would hold up all behind it for ever.
    """
    columns = _columns(records)
    return columns if _clean(columns) else _columns([_cleaned(record) for record in records])


def _columns(records: Sequence[Record]) -> Columns:
    columns: Columns = dict(zip(Record.__struct_fields__, zip(*map(astuple, records), strict=True), strict=True))
    columns.update(zip(_COUNTS, zip(*map(astuple, columns.pop("usage")), strict=True), strict=True))
    return columns


def _clean(columns: Columns) -> bool:
    texts = set(chain.from_iterable(columns["tags"])).union(*(columns[name] for name in _TEXTS))
    numbers = [columns[name] for name in (*_NUMBERS, *_COUNTS)]
    joined = "".join(texts)
    try:
        joined.encode()
    except UnicodeEncodeError:
        return False
    short = max(map(len, texts)) <= SHORT and "\0" not in joined
    return short and min(map(min, numbers)) >= 0 and max(map(max, numbers)) <= BIGGEST


def _cleaned(record: Record) -> Record:
    changes: dict[str, Any] = {name: storable(getattr(record, name), length) for name, length in _LENGTHS}
    changes.update((name, bounded(getattr(record, name))) for name in _NUMBERS)
    changes["tags"] = tuple(storable(tag, LONGEST) for tag in record.tags)
    changes["usage"] = Usage(**{name: bounded(getattr(record.usage, name)) for name in _COUNTS})
    return msgspec.structs.replace(record, **changes)


async def _unknown(connection: AsyncConnection, records: Sequence[Record]) -> list[Record]:
    """Those that are not stored yet, each once."""
    query = select(usage.c.id).where(usage.c.id.in_(bindparam("ids", expanding=True)))
    fresh: dict[str, Record] = {}
    for start in range(0, len(records), CHUNK):
        named = {storable(record.id, SHORT): record for record in records[start : start + CHUNK]}
        known = {name for (name,) in await connection.execute(query, {"ids": list(named)})}
        fresh.update((name, record) for name, record in named.items() if name not in known)
    return list(fresh.values())


async def _windows(connection: AsyncConnection, paid: dict[str, list[tuple[int, int]]]) -> dict[Place, list[int]]:
    """Cost by key and budget window, for the keys that exist.

    A request counts in the window in which it ended, as it does in the data plane. One that ended before the key's
    first window began counts in none: what a key has spent may have been set since.
    """
    ids, sums = sorted(paid), defaultdict[Place, list[int]](lambda: [0])
    query = select(virtual_keys.c.id, virtual_keys.c.budget_from, virtual_keys.c.budget_seconds)
    for start in range(0, len(ids), CHUNK):
        found = await connection.execute(query.where(virtual_keys.c.id.in_(ids[start : start + CHUNK])))
        for key_id, anchor, seconds in found:
            for window, cost in _by_window(paid[key_id], anchor, seconds):
                sums[key_id, window][0] += cost
    return sums


def _by_window(paid: list[tuple[int, int]], anchor: int, seconds: int | None) -> Iterable[tuple[int, int]]:
    ends, costs = zip(*paid, strict=True)
    earliest = min(ends)
    window = window_start(anchor, seconds, earliest)
    if earliest >= anchor and window == window_start(anchor, seconds, max(ends)):
        return [(window, sum(costs))]  # as nearly always
    return [(window_start(anchor, seconds, ended), cost) for ended, cost in paid if ended >= anchor]
