"""PostgreSQL: two pools, each under a role of its own, and no statement that waits for ever. It must not act for an
organisation under a role that sees more.

A transaction begins by saying for whom it is, in a setting that ends with it. The same statement finds out what must be
known before anything else runs: that the connection is alive, that it has its role, and that nobody's organisation was
left on it.

Three things end a wait, the shortest first: the server gives up on a lock, then on a statement; and where it says
nothing any more, the connection is cut from this side. Asking the server to cancel would only be another wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

TENANT_ROLE = "ostiary_app"
INSTANCE_ROLE = "ostiary_instance"
FEWEST = 4  # connections: the owner's, one for each pool, and one more

CONNECT_SECONDS = 4.0
ENTER_SECONDS = 4.6  # from the wish for a connection to its first answer, waiting for others included
READ_SECONDS = 4.5  # one statement
WRITE_SECONDS = 15.0
LEAVE_SECONDS = 2.0
LOCK_SECONDS = 4.0
IDLE_SECONDS = 60.0  # between two statements of a transaction
MIGRATION_SECONDS = 3600.0
LAST_RESORT_SECONDS = 60.0  # for what no other limit covers: the next rows of a cursor
_GRACE = 0.3  # the server gives up that much before this side does
_MIGRATING = 7381240550  # the advisory lock of whoever changes the schema
_SECONDS = "ostiary_seconds"

_SETTINGS = (
    "SELECT set_config('search_path', quote_ident(coalesce(current_schema(), 'public')) || ', pg_temp', false),"
    " set_config('lock_timeout', $1, false), set_config('idle_in_transaction_session_timeout', $2, false)"
)
_BECOME = "SELECT set_config('role', $1, false)"
_WAIT_FOR_LOCKS = "SELECT set_config('lock_timeout', $1::text, true)"
_ALONE = "SELECT pg_advisory_xact_lock($1::bigint)"
# What a list selects is worked out from left to right: first what was there, then what shall be.
_ENTER = (
    "SELECT coalesce(current_setting('ostiary.org', true), ''), current_user::text,"
    " set_config('ostiary.org', $1::text, true), set_config('statement_timeout', $2::text, true)"
)


class PostgresqlEngine:
    """One database on a server.

    Args:
        dsn: `postgresql://...`, as asyncpg reads it.
        connections: how many at most, all together.
    """

    def __init__(self, dsn: str, connections: int) -> None:
        if connections < FEWEST:
            raise ValueError(f"a connection budget is at least {FEWEST}")
        instance = connections // 2
        self._instance = _pool(dsn, INSTANCE_ROLE, instance)
        self._tenant = _pool(dsn, TENANT_ROLE, connections - 1 - instance)
        self._owner = create_async_engine(
            "postgresql+asyncpg://", async_creator=_creator(dsn, None), poolclass=NullPool, hide_parameters=True
        )
        _watch(self._owner)
        self._turn = asyncio.Lock()

    @property
    def dialect(self) -> Dialect:
        """PostgreSQL's."""
        return self._instance.dialect

    @asynccontextmanager
    async def session(
        self, organization: str | None, *, writing: bool, seconds: float | None = None
    ) -> AsyncIterator[AsyncConnection]:
        """A connection in a transaction, under the role and for the organisation it is for."""
        if organization == "":
            raise ValueError("an organisation has an id")
        patience = seconds or (WRITE_SECONDS if writing else READ_SECONDS)
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(ENTER_SECONDS):
                connection = await self._enter(stack, organization, writing, patience)
            yield connection
            if writing:
                (await _line(connection)).cut_after(patience)
                await connection.commit()

    @asynccontextmanager
    async def owner(self, *, alone: bool = True) -> AsyncIterator[AsyncConnection]:
        """A connection of the login itself. `alone` keeps all others out who ask for that."""
        patience = MIGRATION_SECONDS if alone else READ_SECONDS
        async with AsyncExitStack() as stack:
            if alone:
                await stack.enter_async_context(self._turn)
            async with asyncio.timeout(ENTER_SECONDS):
                connection = await stack.enter_async_context(self._owner.connect())
                stack.callback((await _line(connection)).cut_after, LEAVE_SECONDS)
            await connection.execution_options(**{_SECONDS: patience})
            if alone:
                await connection.exec_driver_sql(_WAIT_FOR_LOCKS, (_span(MIGRATION_SECONDS),))
                await connection.exec_driver_sql(_ALONE, (_MIGRATING,))
                await connection.exec_driver_sql(_WAIT_FOR_LOCKS, (_span(IDLE_SECONDS),))
            yield connection
            (await _line(connection)).cut_after(patience)
            await connection.commit()

    async def close(self) -> None:
        """Close all connections."""
        for engine in (self._tenant, self._instance, self._owner):
            await engine.dispose()

    async def _enter(
        self, stack: AsyncExitStack, organization: str | None, writing: bool, patience: float
    ) -> AsyncConnection:
        """A connection that has answered. One that died in the pool is replaced, once: then all others are too."""
        engine, role = (self._instance, INSTANCE_ROLE) if organization is None else (self._tenant, TENANT_ROLE)
        said = (organization or "", _span(max(patience - _GRACE, patience / 2)))
        again = True
        while True:
            connection = await stack.enter_async_context(engine.connect())
            stack.callback((await _line(connection)).cut_after, LEAVE_SECONDS)
            await connection.execution_options(
                isolation_level="READ COMMITTED" if writing else "REPEATABLE READ",
                postgresql_readonly=not writing,
                **{_SECONDS: CONNECT_SECONDS},
            )
            try:
                found = (await connection.exec_driver_sql(_ENTER, said)).one()
            except DBAPIError as error:
                if not (again and error.connection_invalidated):
                    raise
                again = False
                await stack.aclose()
                continue
            if tuple(found[:2]) != ("", role):
                await connection.invalidate()
                raise OperationalError(None, None, PermissionError("a connection came back with rights left on it"))
            await connection.execution_options(**{_SECONDS: patience})
            return connection


class Line(asyncpg.Connection):  # type: ignore[misc]  # asyncpg tells no types
    """A connection that can be cut: whatever waits for an answer then fails at once."""

    _timer: asyncio.TimerHandle | None = None

    def cut_after(self, seconds: float) -> None:
        """Cut it in so many seconds, unless `keep` or another deadline comes first."""
        self.keep()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.terminate)

    def keep(self) -> None:
        """Don't cut it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def set_type_codec(self, *_args: Any, **_options: Any) -> None:
        """Codecs for JSON are asked for at every connect, and cost two questions. No column is of that type."""


def _creator(dsn: str, role: str | None) -> Callable[[], Awaitable[Line]]:
    async def made() -> Line:
        line: Line = await asyncpg.connect(
            dsn,
            connection_class=Line,
            timeout=CONNECT_SECONDS,
            command_timeout=LAST_RESORT_SECONDS if role else MIGRATION_SECONDS,
            server_settings={"application_name": "ostiary"},
        )
        line.cut_after(CONNECT_SECONDS)  # until its first statement ends
        try:
            await line.execute(_SETTINGS, _span(LOCK_SECONDS), _span(IDLE_SECONDS))
            if role is not None:
                await line.execute(_BECOME, role)
        except BaseException:
            line.terminate()
            raise
        return line

    return made


def _pool(dsn: str, role: str, size: int) -> AsyncEngine:
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=_creator(dsn, role),
        pool_size=size,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        pool_recycle=3600,
        hide_parameters=True,
    )
    _watch(engine)
    return engine


def _watch(engine: AsyncEngine) -> None:
    """Give every statement its deadline."""
    event.listen(engine.sync_engine, "before_cursor_execute", _before)
    event.listen(engine.sync_engine, "after_cursor_execute", _after)
    event.listen(engine.sync_engine, "handle_error", _failed)
    event.listen(engine.sync_engine, "checkin", _returned)


def _before(connection: Connection, *_: Any) -> None:
    line = connection.connection.driver_connection
    if isinstance(line, Line):
        line.cut_after(connection.get_execution_options().get(_SECONDS, READ_SECONDS))


def _after(connection: Connection, *_: Any) -> None:
    line = connection.connection.driver_connection
    if isinstance(line, Line):
        line.keep()


def _failed(context: ExceptionContext) -> None:
    connection = context.connection
    if connection is not None and not connection.closed and not connection.invalidated:
        _after(connection)


def _returned(adapted: Any, _entry: object) -> None:
    if adapted is not None:
        adapted.driver_connection.keep()


def _span(seconds: float) -> str:
    """A time as PostgreSQL reads it."""
    return f"{seconds * 1000:.0f}ms"


async def _line(connection: AsyncConnection) -> Line:
    line = (await connection.get_raw_connection()).driver_connection
    assert isinstance(line, Line)
    return line
