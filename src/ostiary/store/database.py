"""The database as two verbs, read and write. It must not know any table.

SQLite runs in WAL mode: readers never wait, writers take turns. Every failure of the database leaves as a `Fault`
UNAVAILABLE, so that nobody mistakes "cannot be asked" for "is not there"; a broken constraint stays `IntegrityError`
for the repository that knows what it means.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Dialect, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from ostiary.core.fault import Fault, Kind, Origin

READERS = 4
BUSY_MILLISECONDS = 5000
_WRITING = "ostiary_writing"


class Database:
    """One database. `open_database` makes it ready for use."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._turn = asyncio.Lock()

    @property
    def dialect(self) -> Dialect:
        """The SQL dialect, for statements compiled once."""
        return self._engine.dialect

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection in one consistent view.

        Raises:
            Fault: UNAVAILABLE when the database fails.
        """
        try:
            async with self._engine.connect() as connection:
                yield connection
        except (SQLAlchemyError, OSError) as error:
            raise unavailable(error) from error

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A connection in one transaction, committed at the end, rolled back on any exception.

        Raises:
            IntegrityError: a constraint of the schema was broken.
            Fault: UNAVAILABLE when the database fails.
        """
        try:
            async with self._turn, self._engine.connect() as connection:
                await connection.execution_options(**{_WRITING: True})
                async with connection.begin():
                    yield connection
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError) as error:
            raise unavailable(error) from error

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()


def connect(url: str) -> Database:
    """A database at `url` (`sqlite+aiosqlite:///path`, also written `sqlite:///path`); no connection is made yet.

    An SQLite file is created with mode 0600, its directory with 0700.

    Raises:
        Fault: INVALID_REQUEST for a URL of another kind, UNAVAILABLE when the file cannot be made.
    """
    parsed = _parsed(url)
    _make_private(Path(str(parsed.database)))
    engine = create_async_engine(parsed, pool_size=READERS, max_overflow=0, pool_timeout=30)
    event.listen(engine.sync_engine, "connect", _configure)
    event.listen(engine.sync_engine, "begin", _begin)
    return Database(engine)


def unavailable(error: BaseException | None = None) -> Fault:
    """The failure of a store that cannot be asked. A damaged file says so: no waiting helps it."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0) & 0xFF  # the primary result code
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        public = "the database file is damaged, or is no SQLite database: restore it from a backup"
        return Fault(Kind.UNAVAILABLE, public, origin=Origin.GATEWAY)
    return Fault(Kind.UNAVAILABLE, "the database cannot be reached", origin=Origin.GATEWAY, retry_after=1.0)


def database_file(url: str) -> Path:
    """The file that a URL names.

    Raises:
        Fault: INVALID_REQUEST for a URL of another kind.
    """
    return Path(str(_parsed(url).database))


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise Fault(Kind.INVALID_REQUEST, "the database URL cannot be read") from None
    if parsed.drivername not in {"sqlite", "sqlite+aiosqlite"} or not parsed.database or parsed.database == ":memory:":
        raise Fault(Kind.INVALID_REQUEST, "the database URL must name an SQLite file: sqlite:///path/to/ostiary.db")
    return parsed.set(drivername="sqlite+aiosqlite")


def _make_private(path: Path) -> None:
    """SQLite gives its WAL and index files the mode of the main file, so it is enough to make that one private."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        public = f"the database file {path} cannot be opened ({error.strerror})"
        raise Fault(Kind.UNAVAILABLE, public, origin=Origin.GATEWAY) from None


def _configure(raw: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    """Take transactions into our own hands, and set what SQLite keeps per connection."""
    raw.isolation_level = None
    cursor = raw.cursor()
    for pragma in (
        f"busy_timeout={BUSY_MILLISECONDS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "secure_delete=ON",
        "temp_store=MEMORY",
        "cache_size=-512",  # KiB for each connection: the pages in use are few, and the system caches the file
        "trusted_schema=OFF",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    """A writer takes the lock at once: upgrading later could fail in the middle of the work."""
    writing = connection.get_execution_options().get(_WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
