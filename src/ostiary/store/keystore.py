"""The keystore in a database of its own: an SQLite file, or PostgreSQL. It must not share a file with what it protects.

An ordinary backup of the main database therefore holds no key, wrapped or not: that is what makes the destruction of an
organisation's keys reach into backups as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, String, Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.store.database import Database, connect, unavailable
from ostiary.store.schema.columns import CLASS, MEANING, Class
from ostiary.store.urls import sqlite_file
from ostiary.vault.keystore import (
    Contents,
    Edit,
    Holder,
    KeyState,
    Slot,
    SlotState,
    Stamp,
    Tombstone,
    WrappedKey,
)

CONNECTIONS = 4
_WIPE_SECONDS = 10
FILE_NAME = "keystore.db"

keystore_metadata = MetaData()


def _column(name: str, kind: Any, class_: Class, meaning: str, **options: Any) -> Column[Any]:
    return Column(name, kind, nullable=False, info={CLASS: class_, MEANING: meaning}, **options)


_state = Table(
    "keystore_state",
    keystore_metadata,
    _column("id", Integer, Class.MEASURE, "always 1", primary_key=True),
    _column("generation", BigInteger, Class.MEASURE, "changes so far"),
    _column("instance", String(64), Class.OPAQUE, "the instance"),
    _column("region", String(64), Class.MEASURE, "the region it belongs to"),
    _column("created_at", BigInteger, Class.MEASURE, "when"),
    _column("sealed", LargeBinary, Class.SEALED, "instance, region and time again, under the root key"),
)
_slots = Table(
    "keystore_slots",
    keystore_metadata,
    _column("id", String(64), Class.OPAQUE, "the slot", primary_key=True),
    _column("state", String(16), Class.MEASURE, "active, previous or staged"),
    _column("kind", String(32), Class.MEASURE, "local, or the kind of key service"),
    _column("wrapper", String(512), Class.HASHED, "id of the master key: a digest, or its name at the key service"),
    _column("wrapped", LargeBinary, Class.SEALED, "the root key, under the master key"),
    _column("created_at", BigInteger, Class.MEASURE, "when"),
)
_keys = Table(
    "keystore_keys",
    keystore_metadata,
    _column("id", LargeBinary(8), Class.OPAQUE, "the key", primary_key=True),
    _column("scope", String(64), Class.OPAQUE, "the organisation, or the instance", index=True),
    _column("purpose", String(32), Class.MEASURE, "what it is for"),
    _column("version", Integer, Class.MEASURE, "the how many-th"),
    _column("state", String(16), Class.MEASURE, "decrypt-only, primary or retired"),
    _column("parent", LargeBinary(8), Class.OPAQUE, "the key that wraps it"),
    _column("wrapped", LargeBinary, Class.SEALED, "the key, under its parent"),
    _column("created_at", BigInteger, Class.MEASURE, "when"),
)
_tombstones = Table(
    "keystore_tombstones",
    keystore_metadata,
    _column("scope", String(64), Class.OPAQUE, "organisation whose keys were destroyed", primary_key=True),
    _column("at", BigInteger, Class.MEASURE, "when"),
    _column("keys", LargeBinary, Class.OPAQUE, "ids of the keys, eight bytes each"),
)
_holders = Table(
    "keystore_holders",
    keystore_metadata,
    _column("id", String(64), Class.OPAQUE, "a running process", primary_key=True),
    _column("generation", BigInteger, Class.MEASURE, "what it has loaded"),
    _column("seen_at", BigInteger, Class.MEASURE, "when"),
)


class DatabaseKeySlots:
    """See `vault.keystore.KeySlots`.

    Args:
        url: `sqlite:///path`, or a PostgreSQL database of its own.
    """

    def __init__(self, url: str, *, strict: bool = False) -> None:
        self._database: Database = connect(url, strict=strict, connections=CONNECTIONS)
        self.file: Path | None = sqlite_file(url)

    async def prepare(self) -> None:
        """See the port."""
        async with self._own(alone=True) as connection:
            await connection.run_sync(keystore_metadata.create_all)

    @asynccontextmanager
    async def _own(self, *, alone: bool) -> AsyncIterator[AsyncConnection]:
        """As the owner of the tables, whatever the engine: here there are no roles."""
        try:
            async with self._database.own(alone=alone) as connection:
                yield connection
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError) as error:
            raise unavailable(error) from error

    async def generation(self) -> int:
        """See the port."""
        async with self._own(alone=False) as connection:
            return (await connection.execute(select(_state.c.generation))).scalar() or 0

    async def read(self, scopes: Sequence[str] | None = None) -> Contents:
        """See the port."""
        keys = select(_keys).order_by(_keys.c.scope, _keys.c.purpose, _keys.c.version)
        if scopes is not None:
            keys = keys.where(_keys.c.scope.in_(scopes))
        async with self._own(alone=False) as connection:
            state = (await connection.execute(select(_state))).mappings().first()
            slots = (await connection.execute(select(_slots).order_by(_slots.c.created_at))).mappings().all()
            found = (await connection.execute(keys)).mappings().all()
            dead = (await connection.execute(select(_tombstones))).all()
        return Contents(
            generation=state["generation"] if state else 0,
            stamp=Stamp(state["instance"], state["region"], state["created_at"], bytes(state["sealed"]))
            if state
            else None,
            slots=tuple(Slot(**{**row, "state": SlotState(row["state"])}) for row in slots),
            keys=tuple(WrappedKey(**{**row, "state": KeyState(row["state"])}) for row in found),
            tombstones=tuple(Tombstone(scope, at, _split(keys)) for scope, at, keys in dead),
        )

    async def apply(self, edit: Edit, generation: int) -> bool:
        """See the port."""
        try:
            async with self._own(alone=True) as connection:
                if not await _advance(connection, edit.stamp, generation):
                    return False
                await connection.execute(delete(_slots).where(_slots.c.id.in_(edit.drop_slots)))
                await connection.execute(delete(_keys).where(_keys.c.id.in_(edit.drop_keys)))
                for slot in edit.put_slots:
                    await _put(connection, _slots, msgspec.structs.asdict(slot))
                for key in edit.put_keys:
                    await _put(connection, _keys, msgspec.structs.asdict(key))
                for dead in edit.tombstones:
                    await _put(
                        connection, _tombstones, {"scope": dead.scope, "at": dead.at, "keys": b"".join(dead.keys)}
                    )
        except IntegrityError:  # somebody else was first
            return False
        return True

    async def hold(self, holder: Holder) -> None:
        """See the port."""
        async with self._own(alone=True) as connection:
            await _put(connection, _holders, msgspec.structs.asdict(holder))

    async def release(self, holder: str) -> None:
        """See the port."""
        async with self._own(alone=True) as connection:
            await connection.execute(delete(_holders).where(_holders.c.id == holder))

    async def holders(self) -> list[Holder]:
        """See the port."""
        async with self._own(alone=False) as connection:
            return [Holder(**row) for row in (await connection.execute(select(_holders))).mappings()]

    async def forget(self) -> None:
        """See the port. PostgreSQL's own files keep dead rows until it vacuums them and turns its log over."""
        if self.file is not None:
            await asyncio.to_thread(_wipe, self.file)

    async def close(self) -> None:
        """See the port."""
        await self._database.close()


async def _advance(connection: AsyncConnection, stamp: Stamp | None, generation: int) -> bool:
    """Count the change, in the row that the stamp is in; False where somebody else was faster."""
    values: dict[str, object] = {} if stamp is None else msgspec.structs.asdict(stamp)
    if generation == 0:
        if (await connection.execute(select(_state.c.id))).first() is not None:
            return False
        await connection.execute(insert(_state), {"id": 1, "generation": 1, **values})
        return True
    values["generation"] = generation + 1
    counted = await connection.execute(update(_state).where(_state.c.generation == generation).values(values))
    return counted.rowcount == 1


async def _put(connection: AsyncConnection, table: Table, values: dict[str, Any]) -> None:
    (place,) = table.primary_key
    values = {name: str(value) if isinstance(value, SlotState | KeyState) else value for name, value in values.items()}
    changed = await connection.execute(update(table).where(place == values[place.name]).values(values))
    if not changed.rowcount:
        await connection.execute(insert(table), values)


def _split(keys: bytes) -> tuple[bytes, ...]:
    return tuple(keys[at : at + 8] for at in range(0, len(keys), 8))


def _wipe(file: Path) -> None:
    """Write the log into the file, the file anew, and the log away: `secure_delete` alone leaves bytes in the log.

    A reader in another process holds the log back for as long as it reads, which is never long here.
    """
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=_WIPE_SECONDS, isolation_level=None)) as connection:
            connection.execute("PRAGMA temp_store=MEMORY")
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute("VACUUM")
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise unavailable(error) from error
        busy = 1
    if busy:
        public = "the keys are destroyed, but the log of the keystore is being read and may still hold them: try again"
        raise Fault(Kind.UNAVAILABLE, public, origin=Origin.GATEWAY, retry_after=1.0)
