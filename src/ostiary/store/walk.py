"""Every row that holds something sealed or carries a MAC, some at a time. It must not change a row, or hold many.

What there is to walk is read off the schema: a table that gets a sealed column is walked from then on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from sqlalchemy import Column, Table, bindparam, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.store.database import Database
from ostiary.store.rowmac import COVERED, check
from ostiary.store.schema import metadata
from ostiary.store.schema.columns import Class, class_of
from ostiary.store.schema.stamp import stamp
from ostiary.store.sealing import Values, context, row_of, rows_of
from ostiary.vault.envelope import Context, SealBroken
from ostiary.vault.keyring import Keyring
from ostiary.vault.scope import INSTANCE, Scope

BATCH = 500
LONG_ROWS = {"responses": 10}  # how many rows of a table are a batch, where one may be megabytes long
SECONDS = 120.0  # for one question about a whole table
# What may be opened for one origin only: column by table. The origin stands in the sealed `details` of the same row.
BOUND = {"credentials": "secret", "models": "params"}
DETAILS = "details"


class Place(msgspec.Struct, frozen=True):
    """A table, its sealed columns, and whether its rows carry a MAC."""

    table: Table
    sealed: tuple[str, ...]
    guarded: bool

    @property
    def name(self) -> str:
        """The table's."""
        return str(self.table.name)

    @property
    def read(self) -> tuple[Column[Any], ...]:
        """What has to be read of a row to open and check it."""
        if self.guarded:
            return tuple(self.table.c)
        wanted = {"revision", "name_index", *self.sealed, *(column.name for column in self.table.primary_key)}
        return tuple(column for column in self.table.c if column.name in wanted)


class Finding(msgspec.Struct, frozen=True):
    """What is wrong with a row: `what` is the column that does not open or fit, or `keys` where there are none."""

    table: str
    row: str
    what: str


class Unopened(Exception):
    """A value does not open. `column` is where it stands."""

    def __init__(self, column: str) -> None:
        super().__init__(column)
        self.column = column


class _Bound(msgspec.Struct):
    """The part of a row's details that says where a credential may go."""

    origin: str


def places() -> list[Place]:
    """All there is to walk, by name."""
    found = []
    for name, table in sorted(metadata.tables.items()):
        sealed = tuple(str(column.name) for column in table.c if class_of(column) is Class.SEALED)
        if sealed or name in COVERED:
            found.append(Place(table, sealed, name in COVERED))
    return found


async def require_ours(connection: AsyncConnection, keyring: Keyring) -> None:
    """See that this is the database of the instance whose keys these are: in another one, nothing is sealed under them.

    Raises:
        Fault: INTERNAL.
    """
    found = await rows_of(connection, select(stamp))
    if len(found) != 1 or found[0]["instance"] != keyring.instance_id:
        public = "the database is not that of the instance whose keystore this is: correct the database URL"
        raise Fault(Kind.INTERNAL, public, origin=Origin.GATEWAY)
    if not check(keyring.instance, stamp.name, found[0]):
        public = "the row that says whose database it is was edited: restore it from a backup"
        raise Fault(Kind.INTERNAL, public, origin=Origin.GATEWAY)


async def batches(database: Database, place: Place, size: int = BATCH) -> AsyncIterator[list[Values]]:
    """The rows of a table in the order of its primary key. Each batch is a view of its own, so that nobody waits for
    whoever walks; a row that comes meanwhile may be missed.

    Raises:
        Fault: UNAVAILABLE.
    """
    size = min(size, LONG_ROWS.get(place.name, size))
    key = tuple(place.table.primary_key)
    first = select(*place.read).order_by(*key).limit(size)
    after = first.where(tuple_(*key) > tuple_(*(bindparam(f"after_{one.name}", type_=one.type) for one in key)))
    last: Values | None = None
    while True:
        query, given = (first, {}) if last is None else (after, {f"after_{one.name}": last[one.name] for one in key})
        async with database.read() as connection:
            rows = await rows_of(connection, query, given)
        if rows:
            yield rows
        if len(rows) < size:
            return
        last = rows[-1]


class Scopes:
    """Keys by the organisation that a row belongs to.

    Args:
        keyring: where they are.
    """

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._gone: set[str] = set()

    async def of(self, org_id: str) -> Scope | None:
        """The keys, None where they were destroyed on purpose.

        Raises:
            Fault: INTERNAL where there are none, and nobody destroyed them; UNAVAILABLE.
        """
        if org_id in self._gone:
            return None
        try:
            return self._keyring.instance if org_id == INSTANCE else await self._keyring.organization(org_id)
        except Fault as fault:
            if fault.kind is not Kind.INTERNAL:
                raise
            dead = {one.scope for one in (await self._keyring.slots.read([])).tombstones}
            self._gone |= dead
            if org_id not in dead:
                raise
        return None


def finding(place: Place, row: Values, what: str) -> Finding:
    """A finding about this row; its organisation, where it has one, goes before its id."""
    name = row_of(place.table, row)
    return Finding(place.name, f"{row['org_id']}/{name}" if "org_id" in row else name, what)


def opened(place: Place, row: Values, scope: Scope) -> dict[str, tuple[Context, bytes]]:
    """What is sealed in a row, by column: where, and what.

    Raises:
        Unopened: a value does not open.
    """
    found: dict[str, tuple[Context, bytes]] = {}
    for column in place.sealed:
        sealed = row[column]
        if sealed is None:
            continue
        origin = _origin(found) if BOUND.get(place.name) == column else ""
        where = context(place.table, row, column, origin)
        try:
            found[column] = where, scope.open(sealed, where)
        except SealBroken:
            raise Unopened(column) from None
    return found


def _origin(found: Mapping[str, tuple[Context, bytes]]) -> str:
    """Where the credential of a row may go, as its details say."""
    try:
        return msgspec.json.decode(found[DETAILS][1], type=_Bound).origin
    except (KeyError, msgspec.MsgspecError):
        raise Unopened(DETAILS) from None
