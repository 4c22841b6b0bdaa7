"""Writes a backup of the database: one consistent view, sealed, while others go on. It must not contain a key, nor
replace a file.

The rows are written as they stand, sealed columns still sealed, and then all of it is sealed once more
(`vault.stream`), since measures and ids are nobody's business either. The form is the same for both engines: what was
made on SQLite restores into PostgreSQL and the other way round.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import msgspec
from sqlalchemy import Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault, Kind, Origin
from ostiary.store.database import Database
from ostiary.store.migrate import HEAD
from ostiary.store.schema import metadata
from ostiary.store.schema.columns import Class, class_of
from ostiary.store.schema.stamp import schema_versions, stamp
from ostiary.store.walk import LONG_ROWS
from ostiary.vault.keyring import Keyring
from ostiary.vault.purpose import Purpose
from ostiary.vault.stream import About, StreamSealer

PART_BYTES = 1 << 20  # a part is sealed as soon as it is that long
FEW, MANY = 50, 1000  # rows fetched at once: where a row holds texts of any length, and where it does not
PATIENCE = 600.0  # seconds for one answer of the database: whole tables are read
# Written by migrations, whatever is restored.
LEFT_OUT = frozenset({schema_versions.name})


class Plan(msgspec.Struct, array_like=True, frozen=True, tag="plan"):
    """The first part: every table and its columns, in the order in which rows follow."""

    tables: dict[str, list[str]]


class Rows(msgspec.Struct, array_like=True, frozen=True, tag="rows"):
    """Some rows of one table; values in the order of the plan."""

    table: str
    rows: list[list[Any]]


class Totals(msgspec.Struct, array_like=True, frozen=True, tag="totals"):
    """The last part: how many rows each table had."""

    rows: dict[str, int]


Part: TypeAlias = Plan | Rows | Totals


class Made(msgspec.Struct, frozen=True):
    """What a backup holds: rows by table, and how many bytes it has."""

    rows: Mapping[str, int]
    size: int


def kept_tables() -> list[Table]:
    """The tables of a backup, those first that others refer to."""
    return [table for table in metadata.sorted_tables if table.name not in LEFT_OUT]


def columns_of(table: Table) -> list[str]:
    """The names of a table's columns, in order, as plain texts: SQLAlchemy's are of a kind of their own."""
    return [str(column.name) for column in table.c]


async def back_up(database: Database, keyring: Keyring, clock: Clock, path: Path) -> Made:
    """Write a backup to a new file of mode 0600, which appears when it is complete.

    Raises:
        Fault: INVALID_REQUEST where the file exists or cannot be written; INTERNAL where the database is empty, of
            another instance than the keystore, or of another schema; UNAVAILABLE when it cannot be asked.
    """
    with fresh_file(path) as file:
        async with database.read(seconds=PATIENCE) as connection:
            await _check(connection, keyring)
            about = About(
                instance=keyring.instance_id,
                region=keyring.region,
                schema=HEAD,
                made_at=int(clock.now() * 1000),
                master=keyring.master,
            )
            sealer = StreamSealer(keyring.key(Purpose.BACKUP), about)
            file.write(sealer.head)
            counts: dict[str, int] = {}
            async for part in _parts(connection, counts):
                file.write(sealer.seal(part))
            file.write(sealer.seal(msgspec.msgpack.encode(Totals(counts)), last=True))
            size = file.tell()
    return Made(counts, size)


@contextmanager
def fresh_file(path: Path) -> Iterator[BinaryIO]:
    """A new file of mode 0600, which stands at `path` once it is whole and on the disk, and not at all on failure.

    Raises:
        Fault: INVALID_REQUEST where something is at `path`, or the file cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    if os.path.lexists(path):
        raise _taken(path)
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)  # unlike a renaming, this never replaces what has come there meanwhile
        finally:
            draft.unlink()
        _sync_directory(path.parent)
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        raise _refusal(f"{path} cannot be written ({error.strerror}): make room, or name another place") from error


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _check(connection: AsyncConnection, keyring: Keyring) -> None:
    """The database belongs to the keystore, and is one that this program knows whole."""
    whose = (await connection.execute(select(stamp.c.instance, stamp.c.region))).first()
    if whose is None:
        raise Fault(Kind.INTERNAL, "the database is empty: there is nothing to back up", origin=Origin.GATEWAY)
    if tuple(whose) != (keyring.instance_id, keyring.region):
        public = (
            f"the database belongs to instance {whose[0]} in {whose[1]}, the keystore to {keyring.instance_id} "
            f"in {keyring.region}: name the keystore that belongs to it"
        )
        raise Fault(Kind.INTERNAL, public, origin=Origin.GATEWAY)
    newest = (await connection.execute(select(func.max(schema_versions.c.version)))).scalar()
    if newest != HEAD:
        public = (
            f"the schema is of version {newest} and this program knows {HEAD} whole: use the program of the gateway"
        )
        raise Fault(Kind.INTERNAL, public, origin=Origin.GATEWAY)


async def _parts(connection: AsyncConnection, counts: dict[str, int]) -> AsyncIterator[bytes]:
    """All parts but the last; `counts` is filled on the way."""
    tables = kept_tables()
    yield msgspec.msgpack.encode(Plan({str(table.name): columns_of(table) for table in tables}))
    for table in tables:
        counts[str(table.name)] = 0
        waiting: list[msgspec.Raw] = []
        length = 0
        async for row in _rows(connection, table):
            waiting.append(msgspec.Raw(msgspec.msgpack.encode(row)))
            length += len(waiting[-1])
            counts[table.name] += 1
            if length >= PART_BYTES:
                yield _part(table, waiting)
                waiting, length = [], 0
        if waiting:
            yield _part(table, waiting)


async def _rows(connection: AsyncConnection, table: Table) -> AsyncIterator[tuple[Any, ...]]:
    """The rows of a table, fetched a few at a time."""
    at_once = FEW if any(class_of(column) is Class.SEALED for column in table.c) else MANY
    at_once = LONG_ROWS.get(str(table.name), at_once)
    found = await connection.stream(select(table), execution_options={"yield_per": at_once})
    try:
        async for some in found.partitions(at_once):
            for row in some:
                yield tuple(row)
    finally:
        await found.close()


def _part(table: Table, rows: list[msgspec.Raw]) -> bytes:
    """What `Rows` is on the wire, of rows that are encoded already."""
    return msgspec.msgpack.encode(("rows", str(table.name), rows))


def _taken(path: Path) -> Fault:
    return _refusal(f"{path} exists: a backup never replaces a file; name another")


def _refusal(public: str) -> Fault:
    return Fault(Kind.INVALID_REQUEST, public, origin=Origin.GATEWAY)
