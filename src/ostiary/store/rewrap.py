"""Seals again, under the keys in force, what was sealed under older ones. It must not overwrite what somebody changed.

There is no state but in the rows: killed at any point, it is begun again, and finds what is left to do. Rows are read,
worked on, and only then written, in short transactions that change a row only if it still is what was read. A writer
who was faster wins, and the next pass finds what he wrote.

A row whose MAC fits under none of the keys, or whose value does not open, stays as it is: stamping it anew would vouch
for an edit. It is reported instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Update, and_, bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.store.database import Database
from ostiary.store.rowmac import check, keeper, stamp
from ostiary.store.sealing import Values, owner
from ostiary.store.walk import (
    SECONDS,
    Finding,
    Place,
    Scopes,
    Unopened,
    batches,
    finding,
    opened,
    places,
    require_ours,
)
from ostiary.vault.keyring import Keyring
from ostiary.vault.scope import Scope

MOST_PASSES = 50
MOST_FINDINGS = 1000  # that are named; all are counted
_KEY_ID = 5, 8  # of an envelope: from which byte on, counted from 1, and how many
_OLD, _NEW = "old_", "new_"


class Rewrapped(msgspec.Struct):
    """What was done: values sealed anew, MACs made anew, rows seen and left as they are in the last pass."""

    values: int = 0
    macs: int = 0
    rows: int = 0
    passes: int = 0
    broken_rows: int = 0


class SealedValues:
    """Everything sealed in a database, as `vault.rotation` needs it.

    Args:
        database: an open, migrated database.
        keyring: the keys in force, and those before.
        told: told the table and how many of its rows were looked at, after each batch.
    """

    def __init__(
        self, database: Database, keyring: Keyring, told: Callable[[str, int], None] = lambda _table, _rows: None
    ) -> None:
        self._database = database
        self._told = told
        self.broken: list[Finding] = []  # what the last pass could not do, the first thousand of it
        self._keyring = keyring
        self._scopes = Scopes(keyring)

    async def rewrap(self) -> Rewrapped:
        """Seal everything under the keys in force, in as many passes as it takes until one finds nothing to do.

        Raises:
            Fault: UNAVAILABLE when the database cannot be asked, or somebody goes on using older keys.
        """
        async with self._database.read() as connection:
            await require_ours(connection, self._keyring)
        done = Rewrapped()
        all_places = places()
        while True:
            if done.passes == MOST_PASSES:
                public = "somebody goes on sealing under older keys: stop processes that hang, and run it again"
                raise Fault(Kind.UNAVAILABLE, public, origin=Origin.GATEWAY)
            done.passes += 1
            done.rows, done.broken_rows, self.broken = 0, 0, []
            stale = 0
            for place in all_places:
                stale += await self._pass(place, done)
            if not stale:
                return done

    async def count(self) -> dict[bytes, int]:
        """How many values are sealed under each key, by the key's id, all seen at one moment."""
        found: Counter[bytes] = Counter()
        async with self._database.read(seconds=SECONDS) as connection:
            await require_ours(connection, self._keyring)
            for place in places():
                for column in place.sealed:
                    found.update(await _by_key(connection, place, column))
        return dict(found)

    async def _pass(self, place: Place, done: Rewrapped) -> int:
        """Go once through a table; how many rows had something to do."""
        write, stale = _written(place), 0
        async for rows in batches(self._database, place):
            changes = await self._changes(place, rows, done)
            done.rows += len(rows)
            if changes:
                stale += len(changes)
                async with self._database.write() as connection:
                    await connection.execute(write, changes)
            self._told(place.name, len(rows))
        return stale

    async def _changes(self, place: Place, rows: Sequence[Values], done: Rewrapped) -> list[dict[str, Any]]:
        changes, refreshed = [], False
        for row in rows:
            try:
                own = await self._scopes.of(owner(place.name, row)) if place.sealed else None
                guard = await self._scopes.of(keeper(place.name, row)) if place.guarded else None
                if place.guarded and guard is None:
                    continue
                change = _renewed(place, row, own, guard)
                if isinstance(change, str) and not refreshed:  # keys that another process made a moment ago
                    refreshed = True
                    await self._keyring.refresh()
                    change = _renewed(place, row, own, guard)
            except Fault as fault:
                if fault.kind is not Kind.INTERNAL:
                    raise
                change = "keys"
            if isinstance(change, str):
                done.broken_rows += 1
                if len(self.broken) < MOST_FINDINGS:
                    self.broken.append(finding(place, row, change))
            elif change:
                done.values += sum(name in change and change[name] != row[name] for name in place.sealed)
                done.macs += place.guarded
                changes.append(_parameters(place, row, change))
        return changes


def _renewed(place: Place, row: Values, own: Scope | None, guard: Scope | None) -> dict[str, bytes] | str:
    """The columns of a row that are to be written, none where it is under the keys in force; or what is wrong with it.

    Args:
        own: the keys that its values are sealed under, None where they were destroyed.
        guard: the keys of its MAC, None where it has none.
    """
    stale = own is not None and any(row[name] is not None and not own.is_current(row[name]) for name in place.sealed)
    if guard is not None:
        fresh = None if stale else stamp(guard, place.name, row)
        if fresh == row["row_mac"]:
            return {}
        if not check(guard, place.name, row):
            return "row_mac"
        if fresh is not None:
            return {"row_mac": fresh}
    if not stale:
        return {}
    assert own is not None
    try:
        new = _sealed_again(place, row, own)
    except Unopened as unopened:
        return unopened.column
    if guard is not None:
        new["row_mac"] = stamp(guard, place.name, {**row, **new})
    return new


def _sealed_again(place: Place, row: Values, own: Scope) -> dict[str, bytes]:
    return {
        name: own.seal(plain, where)
        for name, (where, plain) in opened(place, row, own).items()
        if not own.is_current(row[name])
    }


def _written(place: Place) -> Update:
    """One row, if it still is what was read: its MAC and its ciphertexts tell."""
    names = [*place.sealed, *(["row_mac"] if place.guarded else [])]
    columns = place.table.c
    key = [columns[one.name] == bindparam(f"{_OLD}{one.name}", type_=one.type) for one in place.table.primary_key]
    same = [columns[name].is_not_distinct_from(bindparam(f"{_OLD}{name}", type_=columns[name].type)) for name in names]
    values = {columns[name]: bindparam(f"{_NEW}{name}", type_=columns[name].type) for name in names}
    return update(place.table).where(and_(*key, *same)).values(values)


def _parameters(place: Place, row: Values, change: Mapping[str, bytes]) -> dict[str, Any]:
    names = [*place.sealed, *(["row_mac"] if place.guarded else [])]
    given = {f"{_OLD}{one.name}": row[one.name] for one in place.table.primary_key}
    given.update((f"{_OLD}{name}", row[name]) for name in names)
    given.update((f"{_NEW}{name}", change.get(name, row[name])) for name in names)
    return given


async def _by_key(connection: AsyncConnection, place: Place, column: str) -> dict[bytes, int]:
    sealed = place.table.c[column]
    key_id = func.substr(sealed, *_KEY_ID)
    query = select(key_id, func.count()).where(sealed.is_not(None)).group_by(key_id)
    return {bytes(found): count for found, count in await connection.execute(query)}
