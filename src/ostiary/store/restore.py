"""Restores a backup into an empty database, as a whole or not at all. It must not write before it has read it to the
end, nor bring back anything of an organisation whose keys were destroyed.

The backup is read twice: first to see that it is whole, ours, and that the keystore has the keys of everything in it;
then to write it, in one transaction. The first half alone is the drill that shows whether a backup is any good.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Table, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault, Kind, Origin
from ostiary.store.backup import PATIENCE, Part, Plan, Rows, Totals, columns_of, kept_tables
from ostiary.store.database import Database
from ostiary.store.migrate import HEAD, migrate
from ostiary.store.schema.columns import Class, class_of
from ostiary.store.schema.ledger import usage
from ostiary.store.schema.stamp import stamp
from ostiary.store.sealing import owner
from ostiary.vault.envelope import key_id_of
from ostiary.vault.keyring import Keyring
from ostiary.vault.purpose import Purpose
from ostiary.vault.stream import About, StreamBroken, StreamOpener

_PARTS: msgspec.msgpack.Decoder[Part] = msgspec.msgpack.Decoder(Part)
_CENTURY = 3_000_000_000_000  # milliseconds: no records are further apart, or they have no month of their own
_ENSURE = text("SELECT ostiary_ensure_partition(:first, :last)")


class Examined(msgspec.Struct, frozen=True):
    """What was found in a backup.

    Attributes:
        about: its head.
        rows: by table.
        left_out: rows by table that belong to organisations whose keys were destroyed.
        months: the first and the last time of a usage record in Unix milliseconds; zeros where there is none.
    """

    about: About
    rows: Mapping[str, int]
    left_out: Mapping[str, int]
    months: tuple[int, int]


async def examine(keyring: Keyring, path: Path) -> Examined:
    """Read a backup to its end and see whether it could be restored with this keystore. Nothing is written.

    Raises:
        Fault: INVALID_REQUEST where the file cannot be read; INTERNAL where it is damaged, of another instance, region
            or schema, or where the keystore lacks keys.
    """
    contents = await keyring.slots.read()
    survey = _Survey({key.id for key in contents.keys}, frozenset(dead.scope for dead in contents.tombstones))
    about: About | None = None
    for head, part in _read(keyring, path):
        about = head
        survey.take(part)
    if about is None or survey.totals is None or survey.totals != {name: survey.told[name] for name in survey.totals}:
        raise StreamBroken("it does not hold what its end says")
    if survey.missing:
        raise _lacking(survey.missing, about)
    return Examined(about, survey.totals, dict(survey.left_out), (survey.first, survey.last))


class _Survey:
    """What the parts of a backup hold, as they pass.

    Args:
        known: ids of the keys that the keystore has.
        dead: organisations whose keys were destroyed.
    """

    def __init__(self, known: set[bytes], dead: frozenset[str]) -> None:
        self._known = known
        self._dead = dead
        self.told = Counter[str]()
        self.left_out = Counter[str]()
        self.missing: dict[bytes, str] = {}
        self.first = self.last = 0
        self.totals: dict[str, int] | None = None

    def take(self, part: Part) -> None:
        """Look at the next part."""
        if isinstance(part, Totals):
            self.totals = part.rows
        if not isinstance(part, Rows):
            return
        table = _TABLES[part.table]
        self.told[table.name] += len(part.rows)
        for row in _named(table, part):
            if _is_of(self._dead, table, row):
                self.left_out[table.name] += 1
                continue
            self.missing.update((key, scope) for key, scope in _keys_of(table, row) if key not in self._known)
            if table is usage:
                self.first, self.last = (
                    min(self.first or row["started"], row["started"]),
                    max(self.last, row["started"]),
                )


async def restore(database: Database, keyring: Keyring, clock: Clock, path: Path) -> Examined:
    """Write a backup into an empty database, which gets its schema where it has none.

    Raises:
        Fault: as `examine`; INVALID_REQUEST where the database holds rows; UNAVAILABLE where it fails. It is as it was
            then, but for the empty tables.
    """
    examined = await examine(keyring, path)
    dead = frozenset(tombstone.scope for tombstone in (await keyring.slots.read([])).tombstones)
    await migrate(database, clock)
    async with database.write(seconds=PATIENCE) as connection:
        await _check_empty(connection)
        await _make_months(connection, examined.months)
        for _, part in _read(keyring, path):
            if isinstance(part, Rows):
                table = _TABLES[part.table]
                rows = [row for row in _named(table, part) if not _is_of(dead, table, row)]
                if rows:
                    await connection.execute(insert(table), rows)
        await _check_counts(connection, examined)
    return examined


def _read(keyring: Keyring, path: Path) -> Iterator[tuple[About, Part]]:
    """The parts of a backup, once its head has been found to be of this instance, region and schema."""
    try:
        with path.open("rb") as file:
            opener = StreamOpener(file)
            _check_head(opener.about, keyring)
            for chunk in opener.chunks([key for _, key in keyring.instance.keys(Purpose.BACKUP)]):
                part = _decoded(chunk)
                if isinstance(part, Plan) and part.tables != _PLAN:
                    raise StreamBroken("its tables are not those of this program")
                yield opener.about, part
    except OSError as error:
        public = f"the backup {path} cannot be read ({error.strerror})"
        raise Fault(Kind.INVALID_REQUEST, public, origin=Origin.GATEWAY) from None


def _decoded(chunk: bytes) -> Part:
    try:
        part = _PARTS.decode(chunk)
    except msgspec.MsgspecError:
        raise StreamBroken("it holds what this program does not know") from None
    if isinstance(part, Rows) and part.table not in _TABLES:
        raise StreamBroken("it holds a table that this program does not know")
    return part


def _check_head(about: About, keyring: Keyring) -> None:
    if about.instance != keyring.instance_id:
        raise _refusal(
            f"the backup is of instance {about.instance}, the keystore of {keyring.instance_id}: "
            f"restore the keystore of that instance first (master key {about.master})"
        )
    if about.region != keyring.region:
        raise _refusal(f"the backup is of region {about.region}, the keystore of {keyring.region}: it stays there")
    if about.schema != HEAD:
        raise _refusal(
            f"the backup is of schema {about.schema}, this program of {HEAD}: restore it with the release "
            "that made it, then start this one on it"
        )


async def _check_empty(connection: AsyncConnection) -> None:
    """No row in any table. The stamp of a first start counts: such a database has an owner."""
    for table in kept_tables():
        if (await connection.execute(select(func.count()).select_from(select(table).limit(1).subquery()))).scalar():
            whose = (await connection.execute(select(stamp.c.instance))).scalar()
            of = f"of instance {whose}" if whose else "of nobody known"
            public = f"the database is not empty (table {table.name}, {of}): name an empty one, nothing was changed"
            raise Fault(Kind.INVALID_REQUEST, public, origin=Origin.GATEWAY)


async def _make_months(connection: AsyncConnection, months: tuple[int, int]) -> None:
    """Where usage is divided by month, the months must be there before the rows."""
    first, last = months
    if connection.dialect.name == "postgresql" and 0 < first <= last < first + _CENTURY:
        await connection.execute(_ENSURE, {"first": first, "last": last})


async def _check_counts(connection: AsyncConnection, examined: Examined) -> None:
    for table in kept_tables():
        expected = examined.rows.get(table.name, 0) - examined.left_out.get(table.name, 0)
        found = (await connection.execute(select(func.count()).select_from(table))).scalar()
        if found != expected:
            raise _refusal(f"{table.name} has {found} rows after the restore and should have {expected}: it was undone")


def _named(table: Table, part: Rows) -> Iterator[dict[str, Any]]:
    names = _PLAN[table.name]
    for row in part.rows:
        if len(row) != len(names):
            raise StreamBroken("a row has not the columns of its table")
        yield dict(zip(names, row, strict=True))


def _is_of(dead: frozenset[str], table: Table, row: Mapping[str, Any]) -> bool:
    """Whether a row belongs to one of these organisations."""
    return row["id" if table.name == "organizations" else "org_id"] in dead if _has_owner(table) else False


def _has_owner(table: Table) -> bool:
    return table.name == "organizations" or "org_id" in table.c


def _keys_of(table: Table, row: Mapping[str, Any]) -> Iterator[tuple[bytes, str]]:
    """The data keys that a row's sealed values name, and whose they are."""
    for name in _SEALED[table.name]:
        if row[name] is not None:
            yield key_id_of(row[name]) or b"", owner(table.name, row)


def _lacking(missing: Mapping[bytes, str], about: About) -> Fault:
    shown = ", ".join(f"{key_id.hex()} of {scope}" for key_id, scope in sorted(missing.items())[:5])
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    return _refusal(
        f"the keystore lacks data keys that the backup needs ({shown}{more}; master key {about.master}): "
        "restore the keystore backup that was made with it or later"
    )


def _refusal(public: str) -> Fault:
    return Fault(Kind.INTERNAL, public, origin=Origin.GATEWAY)


_TABLES = {str(table.name): table for table in kept_tables()}
_PLAN = {name: columns_of(table) for name, table in _TABLES.items()}
_SEALED = {
    name: [column.name for column in table.c if class_of(column) is Class.SEALED] for name, table in _TABLES.items()
}
