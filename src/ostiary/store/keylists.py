"""Virtual keys in pages: filtered, in order, counted. It must not open more keys than a question needs.

What is in clear (times, limits, ids) is filtered and ordered by the database, by index where lists begin. What is
sealed (aliases, parts of names) is opened key by key, in turns with whatever else the process does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import ColumnElement, Select, and_, func, or_, select, tuple_

from ostiary.core.clock import Clock
from ostiary.store.database import Database
from ostiary.store.directory import Directory
from ostiary.store.keyrows import IN_LIST, KeyDetails, alias_index, fetched, opened
from ostiary.store.rows import MILLISECONDS, KeyRow
from ostiary.store.schema.access import virtual_keys
from ostiary.store.schema.people import organizations
from ostiary.store.sealing import AT_ONCE, Guard, Values, rows_of

Status = Literal["active", "expired", "revoked", "deleted"]
SortField = Literal["created_at", "updated_at", "alias", "expires", "max_budget", "user_id", "team_id"]

_NULLABLE = frozenset({"expires", "max_budget"})
_NAMED = frozenset({"alias", "user_id", "team_id"})  # fields whose order is that of sealed names
_SCANNED = 500  # keys read at once where all are looked at


class KeyFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which keys to list. None means any; an empty set none. Ids are those of the store."""

    user_ids: frozenset[str] | None = None
    team_ids: frozenset[str] | None = None
    organization_id: str | None = None
    alias: str | None = None
    digest: bytes | None = None
    status: Status | None = None
    substring: bool = False  # match `alias` anywhere


class KeyLists:
    """Pages of keys.

    Args:
        database: an open, migrated database.
        guard: checks and opens rows.
        clock: tells expired keys, and which budget windows run.
        directory: names of users and teams, to order by.
    """

    def __init__(self, database: Database, guard: Guard, clock: Clock, directory: Directory) -> None:
        self._database = database
        self._guard = guard
        self._clock = clock
        self._directory = directory

    async def page(
        self, keys: KeyFilter, *, sort: SortField, descending: bool, offset: int, limit: int
    ) -> tuple[list[KeyRow], int]:
        """One page of keys in order, and how many there are in all."""
        condition, now = await self._condition(keys), self._now()
        if sort in _NAMED or _substring(keys) or _many(keys.user_ids) or _many(keys.team_ids):
            ids = await self._ordered(keys, condition, sort, descending)
            return await self.by_id(ids[offset : offset + limit]), len(ids)
        query = select(virtual_keys).where(condition).order_by(*_order(sort, descending))
        async with self._database.read(keys.organization_id) as connection:
            counted = select(func.count()).select_from(virtual_keys).where(condition)
            total = (await connection.execute(counted)).scalar_one()
            rows, costs = await fetched(connection, query.offset(offset).limit(limit), now)
        return await opened(self._guard, rows, costs, now), total

    async def aliases(self, *, offset: int, limit: int, search: str) -> tuple[list[str], int]:
        """Aliases of live keys in alphabetical order, and how many there are."""
        found: list[str] = []
        async for _, details in self._scan(and_(live(), virtual_keys.c.alias_index.is_not(None))):
            if details.alias is not None and search in details.alias:
                found.append(details.alias)
        found.sort()
        return found[offset : offset + limit], len(found)

    async def by_id(self, ids: Sequence[str]) -> list[KeyRow]:
        """Keys in the order of `ids`, deleted ones included. Unknown ids are left out."""
        found, now = dict[str, KeyRow](), self._now()
        for start in range(0, len(ids), IN_LIST):
            query = select(virtual_keys).where(virtual_keys.c.id.in_(ids[start : start + IN_LIST]))
            async with self._database.read() as connection:
                rows, costs = await fetched(connection, query, now)
            found.update((row.id, row) for row in await opened(self._guard, rows, costs, now))
        return [found[key_id] for key_id in ids if key_id in found]

    async def called(self, alias: str, organization_id: str | None = None) -> list[str]:
        """Ids of the keys, deleted ones included, with this alias: one live one in each organisation at most."""
        places = await self._alias_places(alias, organization_id)
        columns, ids = (virtual_keys.c.org_id, virtual_keys.c.alias_index), list[str]()
        for start in range(0, len(places), IN_LIST):
            query = select(virtual_keys.c.id).where(tuple_(*columns).in_(places[start : start + IN_LIST]))
            async with self._database.read() as connection:
                ids += (await connection.execute(query)).scalars()
        return ids

    async def _alias_places(self, alias: str, organization_id: str | None) -> list[tuple[str, bytes]]:
        """The index of an alias differs from one organisation to the next."""
        orgs = [organization_id]
        if organization_id is None:
            async with self._database.read() as connection:
                orgs = list((await connection.execute(select(organizations.c.id))).scalars())
        places: list[tuple[str, bytes]] = []
        for position, org in enumerate(orgs):
            if position % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
            scope = await self._guard.scope_or_none(organizations.name, str(org), str(org))
            if scope is not None:
                places.append((str(org), alias_index(scope, alias)))
        return places

    async def _condition(self, keys: KeyFilter) -> ColumnElement[bool]:
        table, parts, now = virtual_keys.c, list[ColumnElement[bool]](), self._now()
        for column, ids in ((table.team_id, keys.team_ids), (table.user_id, keys.user_ids)):
            if ids is not None and not _many(ids):
                parts.append(column.in_(sorted(ids)))
        if keys.organization_id is not None:
            parts.append(table.org_id == keys.organization_id)
        if keys.alias and not keys.substring:
            parts.append(table.id.in_(await self.called(keys.alias, keys.organization_id)))
        if keys.digest is not None:
            parts.append(table.digest == keys.digest)
        parts.append(table.deleted_at.is_not(None) if keys.status == "deleted" else live())
        if keys.status == "active":
            parts += [or_(table.expires.is_(None), table.expires > now), table.blocked.is_(False)]
        elif keys.status == "expired":
            parts.append(table.expires <= now)
        elif keys.status == "revoked":
            parts.append(table.blocked.is_(True))
        return and_(*parts)

    async def _ordered(
        self, keys: KeyFilter, condition: ColumnElement[bool], sort: SortField, descending: bool
    ) -> list[str]:
        """The ids of all matching keys, in order: every one is opened."""
        part = keys.alias if _substring(keys) else None
        found: list[tuple[Any, str]] = []
        async for row, details in self._scan(condition):
            if (part is None or (details.alias is not None and part in details.alias)) and _owned(keys, row):
                found.append((details.alias if sort == "alias" else row[sort], row["id"]))
        if sort in {"user_id", "team_id"}:
            named = self._directory.user_names if sort == "user_id" else self._directory.team_names
            names = await named({value for value, _ in found if value})
            found = [(names.get(value, ""), key_id) for value, key_id in found]
        # as in the database: nothing comes before anything
        found.sort(key=lambda one: (one[0] is not None, one[0], one[1]), reverse=descending)
        return [key_id for _, key_id in found]

    async def _scan(self, condition: ColumnElement[bool]) -> AsyncIterator[tuple[Values, KeyDetails]]:
        last = ""
        while True:
            query = select(virtual_keys).where(condition, virtual_keys.c.id > last)
            rows = await self._rows(query.order_by(virtual_keys.c.id).limit(_SCANNED))
            if not rows:
                return
            last = rows[-1]["id"]
            for position, row in enumerate(await self._guard.checked(virtual_keys, rows)):
                if position % AT_ONCE == AT_ONCE - 1:
                    await asyncio.sleep(0)
                yield row, await self._guard.opened(virtual_keys, row, KeyDetails)

    async def _rows(self, query: Select[Any]) -> list[Values]:
        async with self._database.read() as connection:
            return await rows_of(connection, query)

    def _now(self) -> int:
        return int(self._clock.now() * MILLISECONDS)


def live() -> ColumnElement[bool]:
    """Of keys that are not deleted."""
    return virtual_keys.c.deleted_at.is_(None)


def _order(sort: SortField, descending: bool) -> Iterable[ColumnElement[Any]]:
    """Nothing comes first, as SQLite has it by itself; only where there can be nothing, since it hides an index."""
    column = virtual_keys.c[sort]
    if not descending:
        return (column.nulls_first() if sort in _NULLABLE else column, virtual_keys.c.id)
    return (column.desc().nulls_last() if sort in _NULLABLE else column.desc(), virtual_keys.c.id.desc())


def _substring(keys: KeyFilter) -> bool:
    return keys.substring and bool(keys.alias)


def _many(ids: frozenset[str] | None) -> bool:
    return ids is not None and len(ids) > IN_LIST


def _owned(keys: KeyFilter, row: Values) -> bool:
    users, teams = keys.user_ids, keys.team_ids
    return (users is None or row["user_id"] in users) and (teams is None or row["team_id"] in teams)
