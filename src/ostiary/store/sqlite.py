"""One SQLite file in WAL mode: readers never wait, writers take turns. It must not be readable to others."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Dialect
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

READERS = 4
BUSY_MILLISECONDS = 5000
WAIT_SECONDS = 30
PRIVATE = 0o600
_WRITING = "ostiary_writing"


class SqliteEngine:
    """One file. It is created with mode 0600 at its first use, its directory with 0700."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = create_async_engine(
            URL.create("sqlite+aiosqlite", database=str(path)),
            pool_size=READERS,
            max_overflow=0,
            pool_timeout=WAIT_SECONDS,
            hide_parameters=True,
        )
        self._turn = asyncio.Lock()
        event.listen(self._engine.sync_engine, "do_connect", self._before_connecting)
        event.listen(self._engine.sync_engine, "connect", _configure)
        event.listen(self._engine.sync_engine, "begin", _begin)

    @property
    def dialect(self) -> Dialect:
        """SQLite's."""
        return self._engine.dialect

    @asynccontextmanager
    async def session(
        self,
        organization: str | None,  # noqa: ARG002 - one process, one file: the statements say whose rows
        *,
        writing: bool,
        seconds: float | None = None,  # noqa: ARG002 - nobody else can make a statement wait here
    ) -> AsyncIterator[AsyncConnection]:
        """A connection in a transaction."""
        if not writing:
            async with self._engine.connect() as connection:
                yield connection
            return
        async with self._turn, self._engine.connect() as connection:
            await connection.execution_options(**{_WRITING: True})
            async with connection.begin():
                yield connection

    def owner(self, *, alone: bool) -> AbstractAsyncContextManager[AsyncConnection]:
        """A writer where it has to be alone: SQLite lets in one at a time. It knows no owners."""
        return self.session(None, writing=alone)

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    def _before_connecting(self, _dialect: Dialect, _entry: object, _args: object, _options: object) -> None:
        _make_private(self._path)


def _make_private(path: Path) -> None:
    """SQLite gives its WAL and index files the mode of the main file, so it is enough to make that one private.

    A file that is there is never opened here: to close any descriptor of it drops all locks that this process has on it
    (POSIX), those of SQLite's connections too. Another process would then take the log away from under them.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if not os.access(path, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise _read_only() from None
        if path.stat().st_mode & 0o777 != PRIVATE:
            path.chmod(PRIVATE)
    except PermissionError as error:
        raise _read_only() from error


def _read_only() -> OSError:
    """To whoever wants to write, what may not be written is the same as a disk that cannot be."""
    return OSError(errno.EROFS, "the database file may not be written")


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
