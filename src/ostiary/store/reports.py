"""Questions to the ledger: pages of records by index, sums from rollups. It must not sum up single records."""

from __future__ import annotations

from collections.abc import Sequence
from operator import add
from typing import Any, Literal

import msgspec
from msgspec.structs import astuple
from sqlalchemy import ColumnElement, Table, and_, func, select, true, tuple_

from ostiary.core.money import Nano
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record
from ostiary.core.usage import Usage
from ostiary.store.database import Database
from ostiary.store.rows import json_value
from ostiary.store.tables import OWNED, usage, usage_daily, usage_labels, usage_totals

Dimension = Literal[
    "day", "key_id", "user_id", "team_id", "organization_id", "model", "upstream_model", "provider", "endpoint"
]
COUNTED_AT_MOST = 100_000  # a total that would need more rows than this to be counted is cut off here

_COUNTS = [column.name for column in usage_daily.c if not column.primary_key]
_OWNERS = ("key_id", "user_id", "organization_id")
_IN_LIST = 500  # keys of one IN list
_USAGE = Usage.__struct_fields__
_RECORD = [name for name in Record.__struct_fields__ if name != "usage"]


Place = tuple[int, str]  # day and key


class UsageFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which days and whose. Days since the epoch (UTC), both inclusive; None means any."""

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
    """Which records. Times are Unix milliseconds, `since` inclusive and `until` exclusive; None means any."""

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
    """Reads of the ledger for people and programs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sums(
        self,
        by: Sequence[Dimension],
        where: UsageFilter,
        *,
        largest: int | None = None,
        of: Sequence[Place] | None = None,
    ) -> list[Sum]:
        """Sums from the daily rollup, grouped and ordered by `by`.

        Args:
            by: dimensions to group by; none gives one sum over everything.
            where: days and owners.
            largest: only so many groups, those of the highest cost, highest first.
            of: only these days and keys, whatever days `where` names.
        """
        if of is None:
            table = _rollup(by, where)
            return await self._sums(table, by, _daily_condition(table, where), largest)
        keys_of: dict[int, list[str]] = {}
        for day, key_id in of:
            keys_of.setdefault(day, []).append(key_id)
        found: list[Sum] = []
        for day, keys in keys_of.items():  # day by day: a list of pairs would be answered by a scan of everything
            condition = _daily_condition(usage_daily, msgspec.structs.replace(where, first_day=day, last_day=day))
            for start in range(0, len(keys), _IN_LIST):
                some = usage_daily.c.key_id.in_(keys[start : start + _IN_LIST])
                found += await self._sums(usage_daily, by, and_(condition, some), largest)
        return found

    async def costliest_keys(self, where: UsageFilter, limit: int) -> list[tuple[Place, int]]:
        """The pairs of day and key that cost most, highest first, each with how many rows its sums are made of."""
        place = usage_daily.c.day, usage_daily.c.key_id
        query = select(*place, func.count()).where(_daily_condition(usage_daily, where)).group_by(*place)
        async with self._database.read() as connection:
            found = await connection.execute(query.order_by(func.sum(usage_daily.c.cost).desc(), *place).limit(limit))
            return [((day, key_id), rows) for day, key_id, rows in found]

    async def days(self, where: UsageFilter, *, limit: int, offset: int) -> tuple[list[int], int]:
        """Days that have usage, newest first, and how many there are."""
        table = _rollup((), where)
        return await self._days(table, _daily_condition(table, where), limit, offset)

    async def label_sums(
        self,
        by: Sequence[Literal["day", "label"]],
        where: LabelFilter,
        *,
        largest: int | None = None,
    ) -> list[Sum]:
        """Sums by tag or end user, like `sums`. A request that has two of the labels counts for each."""
        return await self._sums(usage_labels, by, _label_condition(where), largest)

    async def label_days(self, where: LabelFilter, *, limit: int, offset: int) -> tuple[list[int], int]:
        """Days on which these labels were seen, newest first, and how many there are."""
        return await self._days(usage_labels, _label_condition(where), limit, offset)

    async def label_names(self, kind: Literal["tag", "end_user"], *, limit: int) -> list[str]:
        """Tags or end users ever seen, in alphabetical order."""
        query = select(usage_labels.c.label).where(usage_labels.c.kind == kind).distinct()
        async with self._database.read() as connection:
            return [label for (label,) in await connection.execute(query.order_by(usage_labels.c.label).limit(limit))]

    async def _sums(
        self, table: Table, by: Sequence[str], condition: ColumnElement[bool], largest: int | None
    ) -> list[Sum]:
        columns = [table.c[name] for name in by]
        counts = [func.coalesce(func.sum(table.c[name]), 0).label(name) for name in _COUNTS]
        query = select(*columns, *counts).where(condition).group_by(*columns).order_by(*columns)
        if largest is not None:
            query = query.order_by(None).order_by(func.sum(table.c.cost).desc(), *columns).limit(largest)
        async with self._database.read() as connection:
            rows = await connection.execute(query)
            return [Sum(tuple(row[: len(columns)]), *map(int, row[len(columns) :])) for row in rows]

    async def _days(
        self, table: Table, condition: ColumnElement[bool], limit: int, offset: int
    ) -> tuple[list[int], int]:
        query = select(table.c.day).where(condition).distinct().order_by(table.c.day.desc())
        async with self._database.read() as connection:
            days = [day for (day,) in await connection.execute(query)]
        return days[offset : offset + limit], len(days)

    async def records(
        self, where: LogFilter, *, limit: int, offset: int = 0, before: tuple[int, str] | None = None
    ) -> list[Record]:
        """Records, newest first.

        Args:
            where: whose and when.
            limit: rows at most.
            offset: rows to leave out; costly when large.
            before: (`started`, `id`) of the last row of the page before this one; costs nothing however deep.
        """
        condition = _log_condition(where)
        if before is not None:
            condition = and_(condition, tuple_(usage.c.started, usage.c.id) < tuple_(*before))
        query = select(usage).where(condition).order_by(usage.c.started.desc(), usage.c.id.desc())
        async with self._database.read() as connection:
            return [_record(row._mapping) for row in await connection.execute(query.limit(limit).offset(offset))]

    async def count(self, where: LogFilter) -> int:
        """How many records there are, `COUNTED_AT_MOST` at most."""
        found = select(usage.c.id).where(_log_condition(where)).limit(COUNTED_AT_MOST).subquery()
        async with self._database.read() as connection:
            return (await connection.execute(select(func.count()).select_from(found))).scalar_one()


def folded(sums: Sequence[Sum], *positions: int) -> list[Sum]:
    """The same sums, grouped by these positions of their places only, in the order of first sight."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for found in sums:
        place = tuple(found.place[position] for position in positions)
        _, *counts = astuple(found)
        before = groups.get(place)
        groups[place] = counts if before is None else list(map(add, before, counts))
    return [Sum(place, *counts) for place, counts in groups.items()]


def _rollup(by: Sequence[Dimension], where: UsageFilter) -> Table:
    """The smallest rollup that can tell."""
    owned = any(name in by or getattr(where, name) is not None for name in _OWNERS)
    return usage_daily if owned else usage_totals


def _daily_condition(table: Table, where: UsageFilter) -> ColumnElement[bool]:
    parts = [
        table.c.day >= where.first_day if where.first_day is not None else true(),
        table.c.day <= where.last_day if where.last_day is not None else true(),
    ]
    if where.first_day is not None and where.first_day == where.last_day:
        parts = [table.c.day == where.first_day]  # so that the index goes on with the key
    if where.team_ids is not None:
        parts.append(table.c.team_id.in_(where.team_ids) if where.team_ids else table.c.team_id != "")
    return and_(*parts, *_equal(table, where, (*_OWNERS, "model", "provider")))


def _label_condition(where: LabelFilter) -> ColumnElement[bool]:
    table = usage_labels.c
    named = table.label.in_(where.labels) if where.labels else true()
    return and_(table.kind == where.kind, table.day.between(where.first_day, where.last_day), named)


def _log_condition(where: LogFilter) -> ColumnElement[bool]:
    parts = [
        usage.c.started >= where.since if where.since is not None else true(),
        usage.c.started < where.until if where.until is not None else true(),
        usage.c.id == where.record_id if where.record_id is not None else true(),
    ]
    return and_(*parts, *_equal(usage, where, ("key_id", "user_id")))


def _equal(table: Table, where: msgspec.Struct, names: Sequence[str]) -> list[ColumnElement[bool]]:
    parts = [table.c[name] == value for name in names if (value := getattr(where, name)) is not None]
    if getattr(where, "user_id", None):
        parts.append(OWNED)  # said again, because the index of users is one of those rows only
    return parts


def _record(row: Any) -> Record:
    values = {name: row[name] for name in _RECORD}
    values["outcome"], values["price"] = Outcome(row["outcome"]), PriceState(row["price"])
    values["tags"] = json_value(row["tags"], tuple[str, ...])
    return Record(**values, usage=Usage(**{name: row[name] for name in _USAGE}))
