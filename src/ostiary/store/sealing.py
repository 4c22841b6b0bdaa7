"""Rows checked and opened on their way in, sealed and stamped on their way out. It must not know a table's meaning.

A row whose MAC does not fit is treated as absent, and told of. A value that does not open under a MAC that fits is a
loud failure: the keys are not those it was written with. Both are looked at again with fresh keys first, since another
process may have rotated them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Executable, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from ostiary.core.fault import Fault, Kind
from ostiary.store.rowmac import check, keeper
from ostiary.vault.envelope import Context, SealBroken, UnknownKey
from ostiary.vault.keyring import Keyring
from ostiary.vault.scope import INSTANCE, Scope

T = TypeVar("T")
S = TypeVar("S")
Values = Mapping[str, Any]  # a row by the names of its columns

AT_ONCE = 50  # rows checked or opened in one turn of the event loop: two milliseconds at most
_OF_INSTANCE = frozenset({"users", "sessions"})


class Alarm:
    """What was found wrong in the database, counted by table and passed on. One for all repositories of a process.

    Args:
        tampered: told the table and row of each row whose MAC does not fit.
        broken: told the table and row of each sealed value that does not open under the keys there are.
    """

    def __init__(
        self,
        tampered: Callable[[str, str], None] = lambda _table, _row: None,
        broken: Callable[[str, str], None] = lambda _table, _row: None,
    ) -> None:
        self.tampered_rows: Counter[str] = Counter()
        self.broken_seals: Counter[str] = Counter()
        self._tampered = tampered
        self._broken = broken

    def tampered(self, table: str, row: str) -> None:
        """A row was edited past this program."""
        self.tampered_rows[table] += 1
        self._tampered(table, row)

    def broken(self, table: str, row: str) -> None:
        """A sealed value does not open."""
        self.broken_seals[table] += 1
        self._broken(table, row)


class Guard:
    """Checks and opens rows under the keys of whoever owns them.

    Args:
        keyring: where the keys are.
        alarm: told what is wrong.
    """

    def __init__(self, keyring: Keyring, alarm: Alarm) -> None:
        self.keyring = keyring
        self.alarm = alarm

    async def scope(self, org_id: str) -> Scope:
        """The keys of an organisation, or of the instance.

        Raises:
            Fault: INTERNAL when there are none (any more).
        """
        return self.keyring.instance if org_id == INSTANCE else await self.keyring.organization(org_id)

    async def scope_or_none(self, table: str, row: str, org_id: str) -> Scope | None:
        """The keys of an organisation that a row belongs to. None when there are none: the row is absent, which the
        alarm is told of, unless the keys were destroyed on purpose.
        """
        try:
            return await self.scope(org_id)
        except Fault as fault:
            if fault.kind is not Kind.INTERNAL:
                raise
        if all(dead.scope != org_id for dead in (await self.keyring.slots.read([org_id])).tombstones):
            self.alarm.broken(table, row)
        return None

    async def checked(self, table: Table, rows: Iterable[Values]) -> list[Values]:
        """The rows whose MACs fit, in their order. The alarm is told of the others."""
        fitting, refreshed = list[Values](), False
        for position, row in enumerate(rows):
            if position % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
            scope = await self.scope_or_none(table.name, row_of(table, row), keeper(table.name, row))
            if scope is None:
                continue
            fits = check(scope, table.name, row)
            if not fits and not refreshed:  # scopes that are in use get their fresh keys
                refreshed = True
                await self.keyring.refresh()
                fits = check(scope, table.name, row)
            if fits:
                fitting.append(row)
            else:
                self.alarm.tampered(table.name, row_of(table, row))
        return fitting

    async def opened(self, table: Table, row: Values, kind: type[T], column: str = "details") -> T:
        """The sealed document of one row.

        Raises:
            SealBroken: it does not open; the alarm has been told.
        """
        scope, where = await self.scope(owner(table.name, row)), context(table, row, column)
        return await self.loudly(table, row, lambda: unseal(scope, row[column], where, kind))

    async def loudly(self, table: Table, row: Values, work: Callable[[], T]) -> T:
        """The result of `work`, which opens a value of this row; tried again with fresh keys.

        Raises:
            SealBroken: it does not open; the alarm has been told.
        """
        try:
            return await with_fresh_keys(self.keyring, work)
        except SealBroken:
            self.alarm.broken(table.name, row_of(table, row))
            raise


async def with_fresh_keys(keyring: Keyring, work: Callable[[], T]) -> T:
    """The result of `work`, tried once more with fresh keys where it meets one that is not loaded.

    Raises:
        SealBroken: the key is not there, or the value is damaged or moved.
    """
    try:
        return work()
    except UnknownKey:
        await keyring.refresh()
        return work()


async def by_turns(items: Sequence[S], work: Callable[[S], T], at_once: int = AT_ONCE) -> list[T]:
    """`work` done on every item, letting the event loop turn after every `at_once`."""
    done: list[T] = []
    for start in range(0, len(items), at_once):
        if start:
            await asyncio.sleep(0)
        done.extend(map(work, items[start : start + at_once]))
    return done


async def rows_of(
    connection: AsyncConnection, query: Executable, parameters: Mapping[str, Any] | None = None
) -> list[Values]:
    """What a query finds, each row a mapping from the names of its columns."""
    return [row._asdict() for row in await connection.execute(query, parameters)]


def seal(scope: Scope, document: msgspec.Struct, where: Context) -> bytes:
    """A document sealed at its place."""
    return scope.seal(msgspec.json.encode(document), where)


def unseal(scope: Scope, sealed: bytes, where: Context, kind: type[T]) -> T:
    """The document sealed at this place.

    Raises:
        SealBroken: it does not open, or is no `kind`.
    """
    try:
        return msgspec.json.decode(scope.open(sealed, where), type=kind)
    except msgspec.MsgspecError:
        raise SealBroken(where) from None


def owner(table: str, values: Values) -> str:
    """The id of the scope under whose keys the values of a row are sealed."""
    if table in _OF_INSTANCE:
        return INSTANCE
    return str(values["id" if table == "organizations" else "org_id"])


def context(table: Table, values: Values, column: str = "details", origin: str = "") -> Context:
    """Where a value of this row is sealed. `values` holds at least its primary key and revision."""
    revision = values["revision"] if "revision" in table.c else 0
    return Context(table=table.name, column=column, row=row_of(table, values), revision=revision, origin=origin)


def row_of(table: Table, values: Values) -> str:
    """What names a row within its organisation: the primary key without `org_id`, its parts joined by a slash."""
    parts = [values[column.name] for column in table.primary_key if column.name != "org_id"]
    return "/".join(part.hex() if isinstance(part, bytes) else str(part) for part in parts)
