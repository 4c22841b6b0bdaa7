"""Questions to the ledger: pages of records by index, sums from rollups. It must not sum up single records.

Rows hold ids, questions and answers hold texts: filters find the ids of their texts first, and the texts of an answer
are opened when it has been summed up. What cannot be opened any more is called by its id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from operator import add, itemgetter
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec.structs import astuple
from sqlalchemy import ColumnElement, Select, Table, TextClause, and_, false, func, literal_column, select, true, tuple_

from ostiary.core.money import Nano
from ostiary.core.record import Record
from ostiary.store.database import Database
from ostiary.store.directory import Directory
from ostiary.store.ledger_texts import NAMED, OWNED_BY, LedgerTexts
from ostiary.store.names import Names
from ostiary.store.schema.ledger import OWNED, usage, usage_daily, usage_labels, usage_totals

Dimension = Literal[
    "day", "key_id", "user_id", "team_id", "organization_id", "model", "upstream_model", "provider", "endpoint"
]
COUNTED_AT_MOST = 100_000  # a total that would need more rows than this to be counted is cut off here

_COUNTS = [column.name for column in usage_daily.c if not column.primary_key]
_KEYED = ("key_id", "user_id")  # what only the larger rollup knows
_IN_LIST = 500  # keys of one IN list
_MORE = 4  # so many times the groups asked for are read where equal texts of several organisations add up
_LABELS_LOOKED_AT = 10_000  # for a list of names in alphabetical order: each has to be opened first

Place = tuple[int, str]  # day and key
Condition: TypeAlias = ColumnElement[bool] | TextClause


class UsageFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which days and whose. Days since the epoch (UTC), both inclusive; None means any.

    `key_id` is a key's id; users, teams, organisations and models are named as callers name them.
    """

    first_day: int | None = None
    last_day: int | None = None
    key_id: str | None = None
    user_id: str | None = None
    team_ids: tuple[str, ...] | None = None  # none named: whatever has a team
    organization_id: str | None = None
    model: str | None = None
    provider: str | None = None


class LabelFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which tags or end users, and on which days (both inclusive); no labels named mean any."""

    kind: Literal["tag", "end_user"]
    first_day: int
    last_day: int
    labels: tuple[str, ...] = ()


class LogFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which records. Times are Unix milliseconds, `since` inclusive and `until` exclusive; None means any.

    `key_id` is a key's id, `user_id` the name by which callers know a user.
    """

    since: int | None = None
    until: int | None = None
    record_id: str | None = None
    key_id: str | None = None
    user_id: str | None = None


class Sum(msgspec.Struct, frozen=True):
    """What one group consumed. `place` holds the group's values in the order asked for; `cost` is nanodollars."""

    place: tuple[Any, ...]
    requests: int = 0
    ok: int = 0
    failed: int = 0
    unpriced: int = 0
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_creation: int = 0
    reasoning: int = 0
    cost: Nano = 0


class UsageReports:
    """Reads of the ledger for people and programs, over all organisations.

    Args:
        database: an open, migrated database.
        names: the dictionaries of requests.
        directory: names of users, teams and organisations.
    """

    def __init__(self, database: Database, names: Names, directory: Directory) -> None:
        self._database = database
        self._names = names
        self._texts = LedgerTexts(names, directory)

    async def sums(
        self,
        by: Sequence[Dimension],
        where: UsageFilter,
        *,
        largest: int | None = None,
        of: Sequence[Place] | None = None,
        only: Sequence[str] = _COUNTS,
    ) -> list[Sum]:
        """Sums from the daily rollup, grouped and ordered by `by`.

        Args:
            by: dimensions to group by; none gives one sum over everything.
            where: days and owners.
            largest: only so many groups, those of the highest cost, highest first. A text that several organisations
                use is one group, for whose rank only its costliest organisations count.
            of: only these days and keys, whatever days `where` names.
            only: what to sum up; the rest of each `Sum` stays zero.
        """
        columns = ["org_id" if name == "organization_id" else name for name in by]
        if of is None:
            table = _rollup(by, where)
            return await self._sums(table, columns, [await self._daily_condition(table, where)], largest, only)
        keys_of: dict[int, list[str]] = {}
        for day, key_id in of:
            keys_of.setdefault(day, []).append(key_id)
        conditions: list[ColumnElement[bool]] = []
        for day, keys in keys_of.items():  # day by day: a list of pairs would be answered by a scan of everything
            within = msgspec.structs.replace(where, first_day=day, last_day=day)
            condition = await self._daily_condition(usage_daily, within, wide=False)
            for start in range(0, len(keys), _IN_LIST):
                some = usage_daily.c.key_id.in_(keys[start : start + _IN_LIST])
                conditions.append(and_(condition, some))
        return await self._sums(usage_daily, columns, conditions, largest, only)

    async def costliest_keys(self, where: UsageFilter, limit: int) -> list[tuple[Sum, int]]:
        """Sums by day and key of the highest cost, highest first, each with how many rows it is made of."""
        place = usage_daily.c.day, usage_daily.c.key_id
        counts = [func.sum(usage_daily.c[name]) for name in _COUNTS]
        condition = await self._daily_condition(usage_daily, where)
        # A key is one organisation's: the group is the same, and the order of the primary key has it together.
        query = select(*place, func.count(), *counts).where(condition).group_by(usage_daily.c.org_id, *place)
        async with self._database.read() as connection:
            found = await connection.execute(query.order_by(func.sum(usage_daily.c.cost).desc(), *place).limit(limit))
            return [(Sum((day, key_id), *map(int, sums)), rows) for day, key_id, rows, *sums in found]

    async def days(self, where: UsageFilter, *, limit: int, offset: int) -> tuple[list[int], int]:
        """Days that have usage, newest first, and how many there are."""
        table = _rollup((), where)
        return await self._days(table, await self._daily_condition(table, where), limit, offset)

    async def label_sums(
        self,
        by: Sequence[Literal["day", "label"]],
        where: LabelFilter,
        *,
        largest: int | None = None,
    ) -> list[Sum]:
        """Sums by tag or end user, like `sums`. A request that has two of the labels counts for each."""
        columns = [where.kind if name == "label" else name for name in by]
        return await self._sums(usage_labels, columns, [await self._label_condition(where)], largest)

    async def label_days(self, where: LabelFilter, *, limit: int, offset: int) -> tuple[list[int], int]:
        """Days on which these labels were seen, newest first, and how many there are."""
        return await self._days(usage_labels, await self._label_condition(where), limit, offset)

    async def label_names(self, kind: Literal["tag", "end_user"], *, limit: int) -> list[str]:
        """Tags or end users in alphabetical order, of the ten thousand that were new most recently."""
        return sorted(await self._names.newest(kind, _LABELS_LOOKED_AT))[:limit]

    async def records(
        self, where: LogFilter, *, limit: int, offset: int = 0, before: tuple[int, str] | None = None
    ) -> list[Record]:
        """Records, newest first, with the names that callers know in them.

        Args:
            where: whose and when.
            limit: rows at most.
            offset: rows to leave out; costly when large.
            before: (`started`, `id`) of the last row of the page before this one; costs nothing however deep.
        """
        condition = await self._log_condition(where)
        if before is not None:
            condition = and_(condition, tuple_(usage.c.started, usage.c.id) < tuple_(*before))
        query = select(usage).where(condition).order_by(usage.c.started.desc(), usage.c.id.desc())
        async with self._database.read() as connection:
            found = await connection.execute(query.limit(limit).offset(offset))
            rows = [dict(row) for row in found.mappings()]
        return await self._texts.records(rows)

    async def count(self, where: LogFilter) -> int:
        """How many records there are, `COUNTED_AT_MOST` at most."""
        found = select(usage.c.id).where(await self._log_condition(where)).limit(COUNTED_AT_MOST).subquery()
        async with self._database.read() as connection:
            return (await connection.execute(select(func.count()).select_from(found))).scalar_one()

    # --- within ---

    async def _sums(
        self,
        table: Table,
        by: Sequence[str],
        conditions: Iterable[ColumnElement[bool]],
        largest: int | None,
        only: Sequence[str] = _COUNTS,
    ) -> list[Sum]:
        """The sums of all conditions together, by texts."""
        columns = [table.c[_column(table, name)] for name in by]
        sums = {name: func.coalesce(func.sum(table.c[name]), 0) for name in only}
        counts: list[ColumnElement[int]] = [sums.get(name, literal_column("0")) for name in _COUNTS]
        merging = any(name in NAMED or name in OWNED_BY for name in by)
        rows: list[tuple[Any, ...]] = []
        async with self._database.read() as connection:
            for condition in conditions:
                # An id belongs to one organisation, so that the least of a group's organisations is the only one.
                query = select(func.min(table.c.org_id), *columns, *counts).where(condition).group_by(*columns)
                if largest is not None:
                    order = func.sum(table.c.cost).desc()
                    query = query.order_by(order, *columns).limit(largest * _MORE if merging else largest)
                rows += await asyncio.to_thread(_plain, await connection.execute(query))
        texts = [
            await self._texts.of(name, ((row[0], row[position]) for row in rows)) for position, name in enumerate(by, 1)
        ]
        # Tens of thousands of rows: in a thread, so that requests get their turn every few milliseconds.
        return await asyncio.to_thread(_named, rows, texts, merging=merging, largest=largest)

    async def _days(
        self, table: Table, condition: ColumnElement[bool], limit: int, offset: int
    ) -> tuple[list[int], int]:
        query = select(table.c.day).where(condition).distinct().order_by(table.c.day.desc())
        async with self._database.read() as connection:
            days = [day for (day,) in await connection.execute(query)]
        return days[offset : offset + limit], len(days)

    async def _daily_condition(self, table: Table, where: UsageFilter, *, wide: bool = True) -> ColumnElement[bool]:
        parts = [
            table.c.day >= where.first_day if where.first_day is not None else true(),
            table.c.day <= where.last_day if where.last_day is not None else true(),
        ]
        if where.first_day is not None and where.first_day == where.last_day:
            parts = [table.c.day == where.first_day]  # so that the index goes on with the key
        if where.team_ids is not None:
            named = table.c.team_id.in_(await self._texts.ids("team_id", where.team_ids))
            parts.append(named if where.team_ids else table.c.team_id != "")
        if where.organization_id is not None:
            parts.append(table.c.org_id.in_(await self._texts.ids("org_id", [where.organization_id])))
        elif wide and where.key_id is None and not where.user_id and self._database.dialect.name == "sqlite":
            # One organisation after the other: their days lie side by side, and the index of days leads to each row
            # alone. PostgreSQL knows how to read many at once.
            parts.append(table.c.org_id.in_(_owners(table)))
        return and_(*parts, *await self._equal(table, where, (*_KEYED, "model", "provider")))

    async def _label_condition(self, where: LabelFilter) -> ColumnElement[bool]:
        table = usage_labels.c
        parts = [table.kind == where.kind, table.day.between(where.first_day, where.last_day)]
        if where.labels:
            parts.append(table.label.in_(await self._texts.ids(where.kind, where.labels)))
        return and_(*parts)

    async def _log_condition(self, where: LogFilter) -> ColumnElement[bool]:
        parts = [
            usage.c.started >= where.since if where.since is not None else true(),
            usage.c.started < where.until if where.until is not None else true(),
            _is_record(where.record_id) if where.record_id is not None else true(),
        ]
        return and_(*parts, *await self._equal(usage, where, ("key_id", "user_id")))

    async def _equal(self, table: Table, where: msgspec.Struct, names: Sequence[str]) -> list[Condition]:
        parts: list[Condition] = []
        for name in names:
            text = getattr(where, name)
            if text is None:
                continue
            ids = await self._texts.ids(name, [text])
            parts.append(table.c[name] == ids[0] if len(ids) == 1 else table.c[name].in_(ids))
            if name == "user_id" and text:
                parts.append(OWNED)  # said again, because the index of users is one of those rows only
        return parts


def _plain(found: Iterable[Any]) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in found]


def _named(
    rows: Sequence[tuple[Any, ...]], texts: Sequence[Mapping[Any, Any]], *, merging: bool, largest: int | None
) -> list[Sum]:
    """Sums of rows, by texts in place of ids."""
    found = [
        Sum(
            tuple(text[value] for text, value in zip(texts, row[1:], strict=False)),
            *map(int, row[1 + len(texts) :]),
        )
        for row in rows
    ]
    if merging:
        found = folded(found, *range(len(texts)))
    found.sort(key=lambda one: one.place)
    if largest is not None:
        found = sorted(found, key=lambda one: one.cost, reverse=True)[:largest]
    return found


def folded(sums: Sequence[Sum], *positions: int) -> list[Sum]:
    """The same sums, grouped by these positions of their places only, in the order of first sight."""
    groups: dict[Any, list[int]] = {}
    place_of = itemgetter(*positions) if positions else lambda _place: ()  # one position: the bare value
    for found in sums:
        place, *counts = astuple(found)
        group = place_of(place)
        before = groups.get(group)
        groups[group] = counts if before is None else list(map(add, before, counts))
    single = len(positions) == 1
    return [Sum((group,) if single else group, *counts) for group, counts in groups.items()]


def _rollup(by: Sequence[Dimension], where: UsageFilter) -> Table:
    """The smallest rollup that can tell."""
    keyed = any(name in by or getattr(where, name) is not None for name in _KEYED)
    return usage_daily if keyed else usage_totals


def _owners(table: Table) -> Select[str]:
    """The organisations that have rows, each found by one look into the primary key."""
    one, other = table.alias(), table.alias()
    found = select(func.min(one.c.org_id).label("id")).cte(recursive=True)
    following = select(func.min(other.c.org_id)).where(other.c.org_id > found.c.id).scalar_subquery()
    return select(found.union_all(select(following).where(found.c.id.is_not(None))).c.id)


def _column(table: Table, name: str) -> str:
    return "label" if table is usage_labels and name != "day" else name


def _is_record(record_id: str) -> ColumnElement[bool]:
    """Ids are UUIDs of version 7 and begin with the request's start, so that the index of times finds them."""
    digits = record_id.replace("-", "")
    if len(digits) != len("0190a1b2c3d47e5f8a9b000000000000") or digits[12:13] != "7":
        return false()
    try:
        started = int(digits[:12], 16)
    except ValueError:
        return false()
    return and_(usage.c.started == started, usage.c.id == record_id)
