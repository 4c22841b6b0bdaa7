"""The database as two verbs, read and write. It must not know any table.

Both take the organisation that is acted for. PostgreSQL then shows and takes that organisation's rows only, whatever
the statement says; on SQLite that is up to the statements. Without an organisation it is the instance that acts.

Every failure of the database leaves as a `Fault` UNAVAILABLE, so that nobody mistakes "cannot be asked" for "is not
there"; a broken constraint stays `IntegrityError` for the repository that knows what it means.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from sqlalchemy.engine import Dialect
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.store.failures import unavailable
from ostiary.store.urls import postgresql_dsn, sqlite_file

__all__ = ["CONNECTIONS", "Database", "Engine", "Gate", "connect", "database_file", "unavailable"]

CONNECTIONS = 10  # to PostgreSQL, all together


class Engine(Protocol):
    """What differs between SQLite and PostgreSQL. Errors leave as the driver and SQLAlchemy raise them."""

    @property
    def dialect(self) -> Dialect:
        """The SQL dialect."""
        ...

    def session(
        self, organization: str | None, *, writing: bool, seconds: float | None
    ) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection in a transaction: committed at the end when writing, undone otherwise."""
        ...

    def owner(self, *, alone: bool) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection in a transaction of whoever owns the tables; `alone` among those who ask for that."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class Gate:
    """Closed until the database is known to be ours and ready: nothing passes, and everybody learns why."""

    def __init__(self) -> None:
        self._fault: Fault | None = None

    def shut(self, public: str) -> None:
        """Let nobody pass from now on. `public` is the reason."""
        self._fault = Fault(Kind.UNAVAILABLE, public, origin=Origin.GATEWAY, retry_after=1.0)

    def open(self) -> None:
        """Let everybody pass."""
        self._fault = None

    @property
    def closed(self) -> str | None:
        """Why nobody passes, None where all do."""
        return self._fault.public if self._fault else None

    def check(self) -> None:
        """Raise a Fault UNAVAILABLE where the gate is shut."""
        if self._fault is not None:
            raise unavailable_because(self._fault.public)


class Database:
    """One database. Nothing is connected until it is used.

    Args:
        engine: SQLite or PostgreSQL.
        gate: what `read` and `write` must pass; `behind` gives the same database another one.
    """

    def __init__(self, engine: Engine, gate: Gate | None = None) -> None:
        self._engine = engine
        self._gate = gate or Gate()

    def behind(self, gate: Gate) -> Database:
        """The same database, behind a gate."""
        return Database(self._engine, gate)

    @property
    def dialect(self) -> Dialect:
        """The SQL dialect, for statements compiled once."""
        return self._engine.dialect

    @asynccontextmanager
    async def read(
        self, organization: str | None = None, *, seconds: float | None = None
    ) -> AsyncIterator[AsyncConnection]:
        """A connection in one consistent view.

        Args:
            organization: id of the organisation whose rows are seen; None for the instance, which sees all.
            seconds: how long PostgreSQL may take for one statement, where the usual few seconds are too short.

        Raises:
            Fault: UNAVAILABLE when the database fails.
        """
        self._gate.check()
        try:
            async with self._engine.session(organization, writing=False, seconds=seconds) as connection:
                yield connection
        except (SQLAlchemyError, OSError) as error:
            raise unavailable(error) from error

    @asynccontextmanager
    async def write(
        self, organization: str | None = None, *, seconds: float | None = None
    ) -> AsyncIterator[AsyncConnection]:
        """A connection in one transaction, committed at the end, rolled back on any exception.

        Args:
            organization: id of the organisation whose rows are seen and written; None for the instance.
            seconds: how long PostgreSQL may take for one statement, where the usual few seconds are too short.

        Raises:
            IntegrityError: a constraint of the schema was broken.
            Fault: UNAVAILABLE when the database fails. If it fails while it commits, all may be written or nothing:
                what is tried again has to bear that.
        """
        self._gate.check()
        try:
            async with self._engine.session(organization, writing=True, seconds=seconds) as connection:
                yield connection
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError) as error:
            raise unavailable(error) from error

    @asynccontextmanager
    async def own(self, *, alone: bool) -> AsyncIterator[AsyncConnection]:
        """A connection in one transaction of the owner of the tables, past any gate: for migrations.

        Args:
            alone: one at a time, whatever process asks. Without it nothing may be written.

        Raises:
            Fault: UNAVAILABLE when the database cannot be asked at all. What a statement raises leaves as it is.
        """
        async with self._engine.owner(alone=alone) as connection:
            yield connection

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.close()


def connect(url: str, *, strict: bool = False, connections: int = CONNECTIONS) -> Database:
    """A database at `url`. No connection is made, no file is touched yet.

    Args:
        url: `sqlite:///path`, or `postgresql://user:password@host:port/database` with the parameters of libpq
            (`sslmode`, `sslrootcert`, several hosts ...); `sqlite+aiosqlite`, `postgres` and `postgresql+asyncpg`
            are other words for the same.
        strict: over a network, PostgreSQL must prove who it is (`sslmode=verify-full`, which is the default then).
        connections: to PostgreSQL, all together; at least 4.

    Raises:
        Fault: INVALID_REQUEST for a URL of another kind, or one that strict mode forbids.
    """
    file = sqlite_file(url)
    if file is not None:
        from ostiary.store.sqlite import SqliteEngine  # each engine loads its driver, and only one is in use

        return Database(SqliteEngine(file))
    dsn = postgresql_dsn(url, strict=strict)
    from ostiary.store.postgresql import PostgresqlEngine

    return Database(PostgresqlEngine(dsn, connections))


def database_file(url: str) -> Path:
    """The file that an SQLite URL names.

    Raises:
        Fault: INVALID_REQUEST for a URL of another kind.
    """
    file = sqlite_file(url)
    if file is None:
        raise Fault(Kind.INVALID_REQUEST, "the database URL must name an SQLite file: sqlite:///path/to/ostiary.db")
    return file


def unavailable_because(public: str) -> Fault:
    """UNAVAILABLE for a reason of ours."""
    return Fault(Kind.UNAVAILABLE, public, origin=Origin.GATEWAY, retry_after=1.0)
