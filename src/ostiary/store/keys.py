"""Virtual keys at rest. It must not see a key's text: digests come in, digests go out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, Update, and_, bindparam, delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault, Kind
from ostiary.core.key import VirtualKey
from ostiary.core.money import Nano
from ostiary.store.database import Database
from ostiary.store.directory import Directory
from ostiary.store.keylists import KeyFilter, KeyLists, SortField, Status, live
from ostiary.store.keyrows import IN_LIST, digest_values, fetched, key_values, opened, spent, window_start_of
from ostiary.store.rowmac import check
from ostiary.store.rows import MILLISECONDS, KeyRow
from ostiary.store.schema.access import key_digests, key_spend, virtual_keys
from ostiary.store.sealing import AT_ONCE, Alarm, Guard, Values, rows_of
from ostiary.vault.keyring import Keyring

__all__ = ["KeyFilter", "KeyRepository", "SortField", "Status", "window_start_of"]

TOGETHER = 200  # keys that are given a new window in one transaction

_ANSWERING = {name: f"answering_{name}" for name in ("digest", "org_id", "key_id", "until", "row_mac")}
_SET_SPEND = (
    "INSERT INTO key_spend (org_id, key_id, window_start, cost) VALUES (:org_id, :key_id, :window_start, :cost)"
    " ON CONFLICT (org_id, key_id, window_start) DO UPDATE SET cost = excluded.cost"
)


class KeyRepository:
    """Keys by digest, id or alias. A row that was edited in the database is treated as if it were not there.

    Args:
        database: an open, migrated database.
        keyring: the keys of the instance and its organisations.
        clock: decides which budget window runs and which retired digest still counts.
        directory: names of users and teams, to order lists by.
        alarm: told of rows that were edited, and of values that do not open.
    """

    def __init__(
        self, database: Database, keyring: Keyring, clock: Clock, directory: Directory, *, alarm: Alarm | None = None
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._clock = clock
        self._guard = Guard(keyring, alarm or Alarm())
        self._lists = KeyLists(database, self._guard, clock, directory)

    # --- reading ---

    async def find(self, digest: bytes) -> VirtualKey | None:
        """The key that answers to this digest, blocked and expired ones included; None if there is none.

        A digest retired by a regeneration counts until its grace ends, which is told in `retired_until`.

        Raises:
            SealBroken: its rights are sealed under a key that is not there.
            Fault: UNAVAILABLE when the database or the keystore cannot be asked.
        """
        now = self._now()
        async with self._database.read() as connection:
            rows = await rows_of(connection, _find(), {"wanted": digest})
            costs = await spent(connection, rows, now)
        answering = await self._guard.checked(
            key_digests, ({name: row[label] for name, label in _ANSWERING.items()} for row in rows)
        )
        if not answering or (answering[0]["until"] is not None and answering[0]["until"] <= now):
            return None
        until = answering[0]["until"]
        found = await opened(self._guard, rows, costs, now)
        if not found:
            return None
        if until is not None:
            changes = {"digest": digest, "retired_until": until / MILLISECONDS}
            return msgspec.structs.replace(found[0].virtual_key(), **changes)
        if found[0].digest != digest:  # a row put back: this text was replaced
            self._guard.alarm.tampered(key_digests.name, digest.hex())
            return None
        return found[0].virtual_key()

    async def get(
        self,
        *,
        key_id: str | None = None,
        digest: bytes | None = None,
        alias: str | None = None,
        organization_id: str | None = None,
    ) -> KeyRow | None:
        """The live key with this id, current digest or alias; for an alias the oldest, if no organisation is named."""
        if key_id is not None:
            condition = virtual_keys.c.id == key_id
        elif digest is not None:
            condition = virtual_keys.c.digest == digest
        else:
            found = await self.called(alias or "", organization_id)
            return found[0] if found else None
        return await self._one(and_(condition, live()))

    async def called(self, alias: str, organization_id: str | None = None) -> list[KeyRow]:
        """The live keys with this alias, oldest first: one in each organisation at most."""
        rows = await self._lists.by_id(sorted(await self._lists.called(alias, organization_id)))
        return [row for row in rows if row.deleted_at is None]

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
        return await self._lists.page(keys, sort=sort, descending=descending, offset=offset, limit=limit)

    async def aliases(self, *, offset: int, limit: int, search: str = "") -> tuple[list[str], int]:
        """Aliases of live keys in alphabetical order, and how many there are."""
        return await self._lists.aliases(offset=offset, limit=limit, search=search)

    async def names(self, ids: Sequence[str]) -> dict[str, KeyRow]:
        """The keys with these ids, deleted ones included: what reports call them by. Unknown ids are left out."""
        return {row.id: row for row in await self._lists.by_id(ids)}

    async def id_of(self, digest: bytes) -> str | None:
        """The id of the newest key, live or deleted, that has or had this digest."""
        newest = select(virtual_keys.c.id).where(virtual_keys.c.digest == digest)
        retired = select(key_digests.c.key_id).where(key_digests.c.digest == digest)
        async with self._database.read() as connection:
            found = (await connection.execute(newest.order_by(virtual_keys.c.created_at.desc()).limit(1))).scalar()
            return found if found is not None else (await connection.execute(retired)).scalar()

    async def after(self, key_id: str, limit: int) -> list[KeyRow]:
        """Live keys in the order of their ids, from behind this one. Empty at the end only."""
        while True:
            query = select(virtual_keys).where(virtual_keys.c.id > key_id, live())
            async with self._database.read() as connection:
                rows, costs = await fetched(connection, query.order_by(virtual_keys.c.id).limit(limit), self._now())
            found = await opened(self._guard, rows, costs, self._now())
            if found or not rows:
                return found
            key_id = rows[-1]["id"]  # none of these is to be trusted

    async def retired(self, key_id: str) -> list[tuple[bytes, int]]:
        """Digests of this key that still count, and until when."""
        query = select(key_digests).where(key_digests.c.key_id == key_id, key_digests.c.until > self._now())
        async with self._database.read() as connection:
            rows = await rows_of(connection, query)
        return [(row["digest"], row["until"]) for row in await self._guard.checked(key_digests, rows)]

    # --- writing ---

    async def add(self, row: KeyRow, spend: Nano = 0) -> KeyRow:
        """Store a new key that has already spent `spend`.

        Raises:
            Fault: INVALID_REQUEST (409) when its digest or alias is in use, (400) when its team or user is not one of
                its organisation.
        """
        values = key_values(await self._guard.scope(row.organization_id), row)
        await self._free(row.digest, "key")
        try:
            async with self._database.write(row.organization_id) as connection:
                await connection.execute(insert(virtual_keys), values)
                await connection.execute(insert(key_digests), digest_values(self._keyring.instance, row, row.digest))
                if spend:
                    await self._set_spend(connection, row, spend)
        except IntegrityError as error:
            raise _conflict(error, "key") from None
        return msgspec.structs.replace(row, spend=spend, spend_from=window_start_of(row, self._now()))

    async def change(
        self, row: KeyRow, *, revision: int, spend: Nano | None = None, retire_until: int | None = None
    ) -> KeyRow:
        """Write `row` over the one of `revision`, giving it the next. Its organisation may be another one.

        Args:
            spend: set what the running window has spent; None leaves it.
            retire_until: with a new digest, let the old one work until then (Unix milliseconds).

        Raises:
            Fault: INVALID_REQUEST (409) when the row was changed meanwhile, or its digest or alias is in use, (400)
                when its team or user is not one of its organisation.
        """
        changed = msgspec.structs.replace(row, revision=revision + 1)
        values = key_values(await self._guard.scope(row.organization_id), changed)
        before = await self._one(and_(virtual_keys.c.id == row.id, live()))
        if before is None or before.revision != revision:
            raise _overtaken()
        renamed, moved = before.digest != row.digest, before.organization_id != row.organization_id
        if renamed:
            await self._free(row.digest, "new_key")
        try:
            async with self._database.write(None if moved else row.organization_id) as connection:
                if renamed or moved:
                    await self._change_with_digests(connection, before, changed, values, retire_until)
                else:
                    await self._write(connection, before, values)
                kept = await self._keep_spend(connection, before, changed, spend)
        except IntegrityError as error:
            raise _conflict(error, "new_key") from None
        return msgspec.structs.replace(changed, spend=kept, spend_from=window_start_of(changed, self._now()))

    async def begin_windows(self, by: str) -> None:
        """Begin a new budget window for every live key, some at a time: where it stops half-way, it can be repeated."""
        last, query = "", select(virtual_keys).where(live()).order_by(virtual_keys.c.id).limit(TOGETHER)
        while True:
            async with self._database.write() as connection:
                asked = query.where(virtual_keys.c.id > last).with_for_update()
                rows = await rows_of(connection, asked)
                await self._rewrite(connection, rows, partial(_begun, now=self._now(), by=by))
            if not rows:
                return
            last = rows[-1]["id"]

    async def remove(self, ids: Sequence[str]) -> None:
        """Delete keys. What they spent stays attributable; their digests and aliases become free."""
        now = self._now()
        async with self._database.write() as connection:
            for start in range(0, len(ids), IN_LIST):
                chunk = ids[start : start + IN_LIST]
                query = select(virtual_keys).where(virtual_keys.c.id.in_(chunk), live()).with_for_update()
                rows = await rows_of(connection, query)
                await self._rewrite(connection, rows, lambda _: {"deleted_at": now, "updated_at": now})
                await connection.execute(delete(key_digests).where(key_digests.c.key_id.in_(chunk)))

    # --- within ---

    def _now(self) -> int:
        return int(self._clock.now() * MILLISECONDS)

    async def _one(self, condition: ColumnElement[bool]) -> KeyRow | None:
        now = self._now()
        async with self._database.read() as connection:
            rows, costs = await fetched(connection, select(virtual_keys).where(condition).limit(1), now)
        found = await opened(self._guard, rows, costs, now)
        return found[0] if found else None

    async def _free(self, digest: bytes, field: str) -> None:
        """See to it that nobody answers to this digest; one whose grace has ended gives it up."""
        ended = and_(key_digests.c.digest == digest, key_digests.c.until <= self._now())
        async with self._database.read() as connection:
            holder = (await connection.execute(select(key_digests).where(key_digests.c.digest == digest))).first()
        if holder is None:
            return
        async with self._database.write() as connection:
            if (await connection.execute(delete(key_digests).where(ended))).rowcount != 1:
                raise _taken(field)

    async def _change_with_digests(
        self, connection: AsyncConnection, before: KeyRow, after: KeyRow, values: Values, retire_until: int | None
    ) -> None:
        """Write a key whose text or organisation changes, and what it answers to."""
        own = and_(key_digests.c.org_id == before.organization_id, key_digests.c.key_id == before.id)
        rows = await rows_of(connection, select(key_digests).where(own, key_digests.c.until > self._now()))
        instance = self._keyring.instance
        answering = {row["digest"]: row["until"] for row in rows if check(instance, key_digests.name, row)}
        if before.digest != after.digest:
            answering.pop(before.digest, None)
            if retire_until is not None:
                answering[before.digest] = retire_until
        answering[after.digest] = None
        await connection.execute(delete(key_digests).where(own))
        await self._write(connection, before, values)
        stamped = [digest_values(instance, after, digest, until) for digest, until in answering.items()]
        await connection.execute(insert(key_digests), stamped)

    async def _write(self, connection: AsyncConnection, before: KeyRow, values: Values) -> None:
        """Write over a row of this revision, and no other."""
        if (await connection.execute(_update(), {**values, **_place(before)})).rowcount != 1:
            raise _overtaken()

    async def _rewrite(
        self, connection: AsyncConnection, rows: Sequence[Values], change: Callable[[KeyRow], Mapping[str, Any]]
    ) -> None:
        """Change rows that this transaction has locked. Those that were edited in the database stay as they are."""
        written: list[Values] = []
        for row in await opened(self._guard, rows, {}, self._now()):
            changed = msgspec.structs.replace(row, **change(row), revision=row.revision + 1)
            written.append({**key_values(await self._guard.scope(row.organization_id), changed), **_place(row)})
            if len(written) % AT_ONCE == 0:
                await asyncio.sleep(0)
        if written:
            await connection.execute(_update(), written)

    async def _keep_spend(self, connection: AsyncConnection, before: KeyRow, after: KeyRow, spend: Nano | None) -> Nano:
        """What the running window has spent, which goes with the key into another window or organisation."""
        moved = before.organization_id != after.organization_id
        if moved:
            own = and_(key_spend.c.org_id == before.organization_id, key_spend.c.key_id == before.id)
            await connection.execute(update(key_spend).where(own).values(org_id=after.organization_id))
        if spend is None:
            cost = select(key_spend.c.cost).where(
                key_spend.c.org_id == after.organization_id,
                key_spend.c.key_id == after.id,
                key_spend.c.window_start == before.spend_from,
            )
            kept = (await connection.execute(cost)).scalar() or 0
            if kept and window_start_of(after, self._now()) != before.spend_from:
                await self._set_spend(connection, after, kept)
            return int(kept)
        await self._set_spend(connection, after, spend)
        return spend

    async def _set_spend(self, connection: AsyncConnection, row: KeyRow, spend: Nano) -> None:
        place = {"org_id": row.organization_id, "key_id": row.id, "window_start": window_start_of(row, self._now())}
        await connection.execute(text(_SET_SPEND), {**place, "cost": spend})


@cache
def _find() -> Select[Any]:
    """The key that a digest leads to, and the row that leads there."""
    own = and_(key_digests.c.org_id == virtual_keys.c.org_id, key_digests.c.key_id == virtual_keys.c.id)
    answering = (key_digests.c[name].label(label) for name, label in _ANSWERING.items())
    return (
        select(virtual_keys, *answering)
        .join(key_digests, own)
        .where(key_digests.c.digest == bindparam("wanted"), virtual_keys.c.deleted_at.is_(None))
    )


@cache
def _update() -> Update:
    """All columns of one live key of a certain revision."""
    place = {"org_id": "was_org", "id": "was_id", "revision": "was_revision"}
    was = (virtual_keys.c[name] == bindparam(parameter) for name, parameter in place.items())
    values: dict[str, Any] = {column.name: bindparam(column.name) for column in virtual_keys.c}
    return update(virtual_keys).where(*was, virtual_keys.c.deleted_at.is_(None)).values(values)


def _begun(row: KeyRow, *, now: int, by: str) -> Mapping[str, Any]:
    begin = now if row.budget_from < now else row.budget_from + 1
    return {"budget_from": begin, "updated_at": now, "updated_by": by}


def _place(row: KeyRow) -> dict[str, Any]:
    return {"was_org": row.organization_id, "was_id": row.id, "was_revision": row.revision}


def _overtaken() -> Fault:
    return Fault(Kind.INVALID_REQUEST, "the key was changed meanwhile; try again", status=409)


def _conflict(error: IntegrityError, digest_field: str) -> Fault:
    """What a broken constraint of the schema means to the caller."""
    broken = str(error.orig).lower()
    if "foreign key" in broken:
        public = "the organisation, team or user of this key does not exist, or is not of the key's organisation"
        return Fault(Kind.INVALID_REQUEST, public)
    return _taken(digest_field if "key_digests" in broken else "key_alias")


def _taken(field: str) -> Fault:
    return Fault(Kind.INVALID_REQUEST, f"`{field}` is in use already", status=409, param=field)
