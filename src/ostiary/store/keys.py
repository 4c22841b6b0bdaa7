"""Virtual keys at rest. It must not see a key's text: digests come in, digests go out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import ColumnElement, Row, Select, and_, case, delete, func, insert, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault, Kind
from ostiary.core.key import VirtualKey
from ostiary.core.money import Nano
from ostiary.store.database import Database
from ostiary.store.rows import MILLISECONDS, KeyRow, json_text, json_value, window_start
from ostiary.store.tables import key_spend, retired_digests, virtual_keys

Status = Literal["active", "expired", "revoked", "deleted"]
SortField = Literal["created_at", "updated_at", "alias", "expires", "max_budget", "user_id", "team_id"]

# JSON columns of `KeyRow` and their types.
_JSON: dict[str, Any] = {
    "models": tuple[str, ...],
    "aliases": dict[str, str],
    "model_rpm": dict[str, int],
    "model_tpm": dict[str, int],
    "allowed_routes": tuple[str, ...],
    "tags": tuple[str, ...],
    "metadata": dict[str, object],
    "extra": dict[str, object],
}
_READ_ONLY = frozenset({"spend", "spend_from"})
_IN_LIST = 500  # parameters of one IN list


class KeyFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which keys to list. None and empty mean any."""

    user_id: str | None = None
    team_id: str | None = None
    organization_id: str | None = None
    alias: str | None = None
    digest: bytes | None = None
    status: Status | None = None
    substring: bool = False  # match `alias` and `user_id` anywhere


class KeyRepository:
    """Keys by digest, id or alias.

    Args:
        database: an open, migrated database.
        clock: decides which budget window runs and which retired digest still counts.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def find(self, digest: bytes) -> VirtualKey | None:
        """The key that answers to this digest, blocked and expired ones included; None if there is none.

        A digest retired by a regeneration counts until its grace ends, which is told in `retired_until`.

        Raises:
            Fault: UNAVAILABLE when the database cannot be asked.
        """
        async with self._database.read() as connection:
            found = await self._one(connection, and_(virtual_keys.c.digest == digest, _live()))
            if found is not None:
                return found.virtual_key()
            retired = (
                await connection.execute(
                    select(retired_digests.c.key_id, retired_digests.c.until).where(
                        retired_digests.c.digest == digest, retired_digests.c.until > self._now()
                    )
                )
            ).first()
            if retired is None:
                return None
            found = await self._one(connection, and_(virtual_keys.c.id == retired.key_id, _live()))
        if found is None:
            return None
        return msgspec.structs.replace(found.virtual_key(), digest=digest, retired_until=retired.until / MILLISECONDS)

    async def get(
        self, *, key_id: str | None = None, digest: bytes | None = None, alias: str | None = None
    ) -> KeyRow | None:
        """The live key with this id, current digest or alias."""
        if key_id is not None:
            condition = virtual_keys.c.id == key_id
        elif digest is not None:
            condition = virtual_keys.c.digest == digest
        else:
            condition = virtual_keys.c.alias == alias
        async with self._database.read() as connection:
            return await self._one(connection, and_(condition, _live()))

    async def page(
        self,
        keys: KeyFilter,
        *,
        sort: SortField = "created_at",
        descending: bool = True,
        offset: int = 0,
        limit: int = 100,
    ) -> tuple[list[KeyRow], int]:
        """One page of keys in order, and how many there are in all."""
        condition = self._condition(keys)
        column = virtual_keys.c[sort]
        order = (column.desc(), virtual_keys.c.id.desc()) if descending else (column, virtual_keys.c.id)
        async with self._database.read() as connection:
            total = (
                await connection.execute(select(func.count()).select_from(virtual_keys).where(condition))
            ).scalar_one()
            query = select(virtual_keys).where(condition).order_by(*order).offset(offset).limit(limit)
            return await self._rows(connection, query), total

    async def aliases(self, *, offset: int, limit: int, search: str = "") -> tuple[list[str], int]:
        """Aliases of live keys in alphabetical order, and how many there are."""
        condition = and_(_live(), virtual_keys.c.alias.is_not(None))
        if search:
            condition = and_(condition, virtual_keys.c.alias.contains(search, autoescape=True))
        async with self._database.read() as connection:
            total = (
                await connection.execute(select(func.count()).select_from(virtual_keys).where(condition))
            ).scalar_one()
            query = select(virtual_keys.c.alias).where(condition).order_by(virtual_keys.c.alias)
            found = await connection.execute(query.offset(offset).limit(limit))
            return [alias for (alias,) in found], total

    async def names(self, ids: Sequence[str]) -> dict[str, KeyRow]:
        """The keys with these ids, deleted ones included: what reports call them by. Unknown ids are left out."""
        found: dict[str, KeyRow] = {}
        async with self._database.read() as connection:
            for start in range(0, len(ids), _IN_LIST):
                chunk = ids[start : start + _IN_LIST]
                for row in await connection.execute(select(virtual_keys).where(virtual_keys.c.id.in_(chunk))):
                    found[row.id] = _key_row(row)
        return found

    async def id_of(self, digest: bytes) -> str | None:
        """The id of the newest key, live or deleted, that has or had this digest."""
        query = select(virtual_keys.c.id).where(virtual_keys.c.digest == digest)
        async with self._database.read() as connection:
            found = (await connection.execute(query.order_by(virtual_keys.c.created_at.desc()).limit(1))).scalar()
            if found is None:
                query = select(retired_digests.c.key_id).where(retired_digests.c.digest == digest)
                found = (await connection.execute(query)).scalar()
        return found

    async def add(self, row: KeyRow, spend: Nano = 0) -> KeyRow:
        """Store a new key that has already spent `spend`.

        Raises:
            Fault: INVALID_REQUEST (409) when its digest or alias is in use.
        """
        try:
            async with self._database.write() as connection:
                if await self._retired(connection, row.digest):
                    raise _taken("key")
                await connection.execute(insert(virtual_keys), _values(row))
                if spend:
                    await self._set_spend(connection, row, spend)
        except IntegrityError as error:
            raise _taken("key" if "digest" in str(error.orig) else "key_alias") from None
        return msgspec.structs.replace(row, spend=spend, spend_from=window_start_of(row, self._now()))

    async def change(
        self, row: KeyRow, *, revision: int, spend: Nano | None = None, retire_until: int | None = None
    ) -> KeyRow:
        """Write `row` over the one of `revision`, giving it the next.

        Args:
            spend: set what the running window has spent; None leaves it.
            retire_until: with a new digest, let the old one work until then (Unix milliseconds).

        Raises:
            Fault: INVALID_REQUEST (409) when the row was changed meanwhile, or its digest or alias is in use.
        """
        changed = msgspec.structs.replace(row, revision=revision + 1)
        try:
            async with self._database.write() as connection:
                before = await self._one(connection, and_(virtual_keys.c.id == row.id, _live()))
                if before is None or before.revision != revision:
                    raise Fault(Kind.INVALID_REQUEST, "the key was changed meanwhile; try again", status=409)
                if before.digest != row.digest:
                    await self._retire(connection, before, row.digest, retire_until)
                await connection.execute(update(virtual_keys).where(virtual_keys.c.id == row.id), _values(changed))
                kept = before.spend if spend is None else spend
                moved = window_start_of(changed, self._now()) != before.spend_from
                if spend is not None or (moved and kept):
                    await self._set_spend(connection, changed, kept)
        except IntegrityError as error:
            raise _taken("new_key" if "digest" in str(error.orig) else "key_alias") from None
        return msgspec.structs.replace(changed, spend=kept, spend_from=window_start_of(changed, self._now()))

    async def begin_windows(self, by: str) -> None:
        """Begin a new budget window for every live key."""
        now, at = self._now(), virtual_keys.c.budget_from
        begun = {
            "budget_from": case((at >= now, at + 1), else_=now),
            "updated_at": now,
            "updated_by": by,
            "revision": virtual_keys.c.revision + 1,
        }
        async with self._database.write() as connection:
            await connection.execute(update(virtual_keys).where(_live()).values(begun))

    async def after(self, key_id: str, limit: int) -> list[KeyRow]:
        """Live keys in the order of their ids, from behind this one."""
        condition = and_(virtual_keys.c.id > key_id, _live())
        query = select(virtual_keys).where(condition).order_by(virtual_keys.c.id).limit(limit)
        async with self._database.read() as connection:
            return await self._rows(connection, query)

    async def remove(self, ids: Sequence[str]) -> None:
        """Delete keys. What they spent stays attributable; their digests and aliases become free."""
        now = self._now()
        async with self._database.write() as connection:
            for start in range(0, len(ids), _IN_LIST):
                chunk = ids[start : start + _IN_LIST]
                condition = and_(virtual_keys.c.id.in_(chunk), _live())
                revised = {"deleted_at": now, "updated_at": now, "revision": virtual_keys.c.revision + 1}
                await connection.execute(update(virtual_keys).where(condition).values(revised))
                await connection.execute(delete(retired_digests).where(retired_digests.c.key_id.in_(chunk)))

    async def retired(self, key_id: str) -> list[tuple[bytes, int]]:
        """Digests of this key that still count, and until when."""
        query = select(retired_digests.c.digest, retired_digests.c.until)
        async with self._database.read() as connection:
            found = await connection.execute(
                query.where(retired_digests.c.key_id == key_id, retired_digests.c.until > self._now())
            )
            return [(digest, until) for digest, until in found]

    def _now(self) -> int:
        return int(self._clock.now() * MILLISECONDS)

    def _condition(self, keys: KeyFilter) -> ColumnElement[bool]:
        table, parts = virtual_keys.c, []
        for column, value in ((table.team_id, keys.team_id), (table.organization_id, keys.organization_id)):
            if value:
                parts.append(column == value)
        for column, value in ((table.alias, keys.alias), (table.user_id, keys.user_id)):
            if value:
                parts.append(column.contains(value, autoescape=True) if keys.substring else column == value)
        if keys.digest is not None:
            parts.append(table.digest == keys.digest)
        parts.append(table.deleted_at.is_not(None) if keys.status == "deleted" else _live())
        current = or_(table.expires.is_(None), table.expires > self._now())
        if keys.status == "active":
            parts += [current, table.blocked.is_(False)]
        elif keys.status == "expired":
            parts.append(table.expires <= self._now())
        elif keys.status == "revoked":
            parts.append(table.blocked.is_(True))
        return and_(*parts)

    async def _one(self, connection: AsyncConnection, condition: ColumnElement[bool]) -> KeyRow | None:
        found = await self._rows(connection, select(virtual_keys).where(condition).limit(1))
        return found[0] if found else None

    async def _rows(self, connection: AsyncConnection, query: Select[Any]) -> list[KeyRow]:
        """Keys with what they spent in their running windows."""
        rows = [_key_row(row) for row in await connection.execute(query)]
        now, spent = self._now(), dict[tuple[str, int], Nano]()
        columns = key_spend.c.key_id, key_spend.c.window_start
        for start in range(0, len(rows), _IN_LIST):
            places = [(row.id, window_start_of(row, now)) for row in rows[start : start + _IN_LIST]]
            found = await connection.execute(select(*columns, key_spend.c.cost).where(tuple_(*columns).in_(places)))
            spent.update(((key_id, window), cost) for key_id, window, cost in found)
        return [
            msgspec.structs.replace(row, spend=spent.get((row.id, window), 0), spend_from=window)
            for row in rows
            for window in (window_start_of(row, now),)
        ]

    async def _set_spend(self, connection: AsyncConnection, row: KeyRow, spend: Nano) -> None:
        place = {"key_id": row.id, "window_start": window_start_of(row, self._now())}
        condition = and_(*(key_spend.c[name] == value for name, value in place.items()))
        await connection.execute(delete(key_spend).where(condition))
        await connection.execute(insert(key_spend), {**place, "cost": spend})

    async def _retired(self, connection: AsyncConnection, digest: bytes) -> bool:
        query = select(retired_digests.c.key_id)
        return (
            await connection.execute(
                query.where(retired_digests.c.digest == digest, retired_digests.c.until > self._now())
            )
        ).first() is not None

    async def _retire(self, connection: AsyncConnection, before: KeyRow, digest: bytes, until: int | None) -> None:
        if await self._retired(connection, digest):
            raise _taken("new_key")
        await connection.execute(
            delete(retired_digests).where(
                or_(retired_digests.c.until <= self._now(), retired_digests.c.digest.in_([digest, before.digest]))
            )
        )
        if until is not None:
            await connection.execute(
                insert(retired_digests), {"digest": before.digest, "key_id": before.id, "until": until}
            )


def window_start_of(row: KeyRow, at: int) -> int:
    """The start of the key's budget window at this time, Unix milliseconds."""
    return window_start(row.budget_from, row.budget_seconds, at)


def _live() -> ColumnElement[bool]:
    return virtual_keys.c.deleted_at.is_(None)


def _values(row: KeyRow) -> Mapping[str, object]:
    values = {name: getattr(row, name) for name in KeyRow.__struct_fields__ if name not in _READ_ONLY}
    return {name: json_text(value) if name in _JSON else value for name, value in values.items()}


def _key_row(row: Row[Any]) -> KeyRow:
    return KeyRow(
        **{name: json_value(value, _JSON[name]) if name in _JSON else value for name, value in row._mapping.items()}
    )


def _taken(field: str) -> Fault:
    return Fault(Kind.INVALID_REQUEST, f"`{field}` is in use already", status=409, param=field)
