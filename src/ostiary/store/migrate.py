"""Bring the schema to this version, or stop the start. It must not touch a database that is not ours, or newer.

Alembic is loaded only where there is something to migrate. A look at the stamp and the columns is enough when the
schema is current, and an empty SQLite file gets the schema as `schema` declares it: a test holds the declarations and
the migrations together.

Versions live side by side: a migration says in `oldest` which version of the schema a program must know to work with
the migrated one. It adds what older programs need not know; what they still need is taken away one version later.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ostiary.core.clock import Clock
from ostiary.core.fault import Fault, Kind, Origin
from ostiary.store.database import Database, unavailable
from ostiary.store.schema import metadata

HEAD = "0001"  # the newest file in migrations/versions; a test holds them together
OLDEST = "0001"  # its `oldest`

_STAMP_TABLE = "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"
_COLUMNS = {
    "sqlite": "SELECT m.name, p.name FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type = 'table'",
    "postgresql": "SELECT relname, attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid"
    " WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND attnum > 0"
    " AND NOT attisdropped",
}


async def migrate(database: Database, clock: Clock) -> None:
    """Run what is missing, in one transaction, one process at a time. Within a process too it must not run twice at
    once: Alembic keeps what it works on in globals.

    Raises:
        Fault: INTERNAL when the database is not ours, half made, of a newer version that this program cannot work
            with, or when a migration fails: nothing is changed then. UNAVAILABLE when it cannot be asked.
    """
    try:
        async with database.own(alone=False) as connection:
            current = await connection.run_sync(_current)
        if current:
            return
        async with database.own(alone=True) as connection:
            await connection.run_sync(_bring, int(clock.now() * 1000))
    except (SQLAlchemyError, OSError) as error:
        raise unavailable(error) from error


def _bring(connection: Connection, now: int) -> None:
    """To the newest version, unless another process did that meanwhile."""
    if _current(connection):
        return
    if connection.dialect.name == "sqlite" and _version(connection) is None:
        _create(connection, now)
    else:
        _upgrade(connection, now)
    _check_columns(connection)


def _current(connection: Connection) -> bool:
    """Whether this program can work with the schema as it is. Refuses one that no migration can help."""
    version = _version(connection)
    if version is None:
        others = sorted(set(inspect(connection).get_table_names()) - {"alembic_version"})
        if others:
            raise _refusal(
                f"the database holds {len(others)} tables and none says that it is Ostiary's: "
                "give Ostiary an empty database of its own"
            )
        return False
    if version < HEAD:
        return False
    if version != HEAD and not _usable(connection, version):
        raise _refusal(
            f"the database schema is of version {_shown(version)}, unknown to this program, which knows {HEAD}: "
            "start the newer program, or restore a backup from before"
        )
    _check_columns(connection)
    return True


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def _usable(connection: Connection, version: str) -> bool:
    """Whether the newer schema says that a program of this version can work with it."""
    if not inspect(connection).has_table("schema_versions"):
        return False
    query = text("SELECT oldest FROM schema_versions WHERE version = :version")
    oldest = connection.execute(query, {"version": version}).scalar()
    return oldest is not None and str(oldest) <= HEAD


def _check_columns(connection: Connection) -> None:
    """What the program will ask for must be there: a schema can be half made, or made by hand."""
    found = {(str(table), str(column)) for table, column in connection.execute(text(_COLUMNS[connection.dialect.name]))}
    expected = {(table.name, column.name) for table in metadata.tables.values() for column in table.c}
    missing = sorted(expected - found)
    if missing:
        table, column = missing[0]
        raise _refusal(
            f"the database schema lacks {len(missing)} columns, {table}.{column} first: "
            "restore it from a backup, or give Ostiary an empty database"
        )


def _create(connection: Connection, now: int) -> None:
    try:
        metadata.create_all(connection)
        connection.execute(text(_STAMP_TABLE))
        connection.execute(text("INSERT INTO alembic_version (version_num) VALUES (:head)"), {"head": HEAD})
        _record(connection, HEAD, OLDEST, now)
    except SQLAlchemyError as error:
        raise _failed(error) from error


def _upgrade(connection: Connection, now: int) -> None:
    from alembic import command  # slow to load, needed once per schema version
    from alembic.config import Config
    from alembic.util import CommandError

    def applied(*, step: Any, **_: Any) -> None:
        module = step.up_revision.module
        _record(connection, module.revision, module.oldest, now)

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes.update(connection=connection, applied=applied)
    try:
        command.upgrade(config, "head")
    except CommandError:
        found = _shown(_version(connection) or "")
        raise _refusal(f"the database schema is of version {found}, which no migration knows") from None
    except SQLAlchemyError as error:
        raise _failed(error) from error


def _record(connection: Connection, version: str, oldest: str, now: int) -> None:
    row = {"version": version, "oldest": oldest, "now": now}
    connection.execute(text("INSERT INTO schema_versions VALUES (:version, :oldest, :now)"), row)


def _failed(error: SQLAlchemyError) -> Fault:
    """A migration that did not work. The database itself being away is no fault of the migration."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return unavailable(error)
    why = unavailable(error).public
    return _refusal(f"the migration to schema {HEAD} failed and was undone ({type(error).__name__}): {why}")


def _shown(version: str) -> str:
    """A version as it may be repeated: the database could hold anything."""
    return "".join(letter for letter in version[:32] if letter.isalnum())


def _refusal(public: str) -> Fault:
    return Fault(Kind.INTERNAL, public, origin=Origin.GATEWAY)
