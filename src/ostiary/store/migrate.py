"""Bring the schema to this version, or stop the start. It must not touch a database of a newer version.

Alembic is loaded only where there is something to migrate. A look at its version stamp is enough when the schema is
current, and an empty SQLite file gets the schema as `tables` declares it: a test holds the declarations and the
migrations together.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.store.database import Database
from ostiary.store.tables import metadata

HEAD = "0001"  # the newest file in migrations/versions; a test holds them together


async def migrate(database: Database) -> None:
    """Run what is missing, in one transaction.

    Raises:
        Fault: INTERNAL when a migration fails or the schema is newer than this program; nothing is changed then.
    """
    async with database.read() as connection:
        current = await connection.run_sync(_stamp)
    if current == HEAD:
        return
    async with database.write() as connection:
        await connection.run_sync(_create if current is None and database.dialect.name == "sqlite" else _upgrade)


def _stamp(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _create(connection: Connection) -> None:
    if inspect(connection).get_table_names():  # tables without a stamp are somebody else's, or a half-made schema
        _upgrade(connection)
        return
    metadata.create_all(connection)
    connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(text("INSERT INTO alembic_version (version_num) VALUES (:head)"), {"head": HEAD})


def _upgrade(connection: Connection) -> None:
    from alembic import command  # slow to load, needed once per schema version
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError:
        public = f"the database schema is of version {_stamp(connection)}, unknown to this program, which knows {HEAD}"
        raise Fault(Kind.INTERNAL, f"{public}: start the newer program", origin=Origin.GATEWAY) from None
    except SQLAlchemyError as error:
        public = f"the migration to schema {HEAD} failed ({type(error).__name__}) and was undone"
        raise Fault(Kind.INTERNAL, public, origin=Origin.GATEWAY) from error
