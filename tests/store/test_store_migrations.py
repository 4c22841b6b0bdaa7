"""The schema on both engines: made from nothing, the same as declared, and side by side with its neighbours."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from engine_kit import START, ManualClock, names, put
from sqlalchemy import Connection, inspect, text

from ostiary.core.fault import Fault, Kind
from ostiary.store import migrate as module
from ostiary.store.database import Database, connect
from ostiary.store.migrate import HEAD, OLDEST, migrate
from ostiary.store.schema import metadata
from ostiary.store.schema.columns import class_of
from ostiary.testing.postgres import PostgresServer, hosted_postgres

SCRIPTS = Path(module.__file__).with_name("migrations")


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database with nothing in it."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ostiary.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"empty_{tmp_path.name[-40:]}".replace("-", "_").lower()
    yield server.create_database(name)
    server.drop_database(name)


async def asked(database: Database, statement: str) -> list[tuple[Any, ...]]:
    async with database.own(alone=True) as connection:
        return [tuple(row) for row in await connection.execute(text(statement))]


async def run(database: Database, *statements: str) -> None:
    """As the owner of the tables."""
    async with database.own(alone=True) as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def refusal(database: Database, kind: Kind = Kind.INTERNAL) -> str:
    with pytest.raises(Fault) as caught:
        await migrate(database, ManualClock())
    assert caught.value.kind is kind
    return caught.value.public


def indexes(connection: Connection) -> dict[str, tuple[str, tuple[str | None, ...], bool, str]]:
    """Every index by name: table, columns, whether unique, and its condition."""
    found = {}
    for table in metadata.tables:
        for index in inspect(connection).get_indexes(table):
            options = index.get("dialect_options", {})
            conditions = [options.get(f"{engine}_where") for engine in ("sqlite", "postgresql")]
            where = "".join(str(one) for one in conditions if one is not None).replace("::text", "")
            plain = "".join(letter for letter in where if letter not in "() ")
            found[str(index["name"])] = (table, tuple(index["column_names"]), bool(index["unique"]), plain)
    return found


def constraints(connection: Connection) -> set[tuple[Any, ...]]:
    """Primary keys, unique constraints and references."""
    look, found = inspect(connection), set[tuple[Any, ...]]()
    for table in metadata.tables:
        found.add((table, "pk", tuple(look.get_pk_constraint(table)["constrained_columns"])))
        found |= {(table, "uq", tuple(one["column_names"])) for one in look.get_unique_constraints(table)}
        for one in look.get_foreign_keys(table):
            there = (one["referred_table"], tuple(one["referred_columns"]), one["options"].get("ondelete"))
            found.add((table, "fk", tuple(one["constrained_columns"]), *there))
    return found


async def test_migrations_make_exactly_what_the_code_declares(tmp_path: Path, postgres: PostgresServer) -> None:
    declared, migrated = connect(f"sqlite:///{tmp_path}/a.db"), connect(f"sqlite:///{tmp_path}/b.db")
    server = connect(postgres.create_database("declared", "template_ostiary"))
    await migrate(declared, ManualClock())  # an empty SQLite file takes no migrations
    async with migrated.own(alone=True) as connection:
        await connection.run_sync(module._upgrade, START)
    seen = []
    for database in (declared, migrated, server):
        async with database.own(alone=False) as connection:
            differences = await connection.run_sync(
                lambda sync: compare_metadata(MigrationContext.configure(sync, opts={"compare_type": True}), metadata)
            )
            unknown = [one for one in differences if not _partition(one)]
            assert unknown == []
            seen.append((await connection.run_sync(indexes), await connection.run_sync(constraints)))
        assert await asked(database, "SELECT * FROM schema_versions") == [(HEAD, OLDEST, START)]
        assert await asked(database, "SELECT * FROM alembic_version") == [(HEAD,)]
        await database.close()
    postgres.drop_database("declared")
    assert seen[0] == seen[1]
    # PostgreSQL keeps a unique constraint as an index of the same name too.
    unique = {name for name, index in seen[2][0].items() if name not in seen[0][0]}
    assert all(name.startswith("uq_") for name in unique)
    assert {name: index for name, index in seen[2][0].items() if name not in unique} == seen[0][0]
    assert seen[2][1] == seen[0][1]


def _partition(difference: Any) -> bool:
    """The default partition and its indexes, which are no part of the declarations."""
    if not isinstance(difference, tuple) or difference[0] not in {"remove_table", "remove_index"}:
        return False
    removed = difference[1]
    return bool((removed if difference[0] == "remove_table" else removed.table).name == "usage_default")


async def test_every_column_in_the_database_has_a_class(database: Database) -> None:
    async with database.own(alone=False) as connection:
        live = await connection.run_sync(
            lambda sync: {
                (table, column["name"])
                for table in inspect(sync).get_table_names()
                if not table.startswith("usage_p") and table not in {"usage_default", "alembic_version"}
                for column in inspect(sync).get_columns(table)
            }
        )
    declared = {(table.name, column.name): class_of(column) for table in metadata.tables.values() for column in table.c}
    assert set(declared) == live
    assert None not in declared.values()


def test_the_newest_migration_is_the_one_that_the_code_names_and_each_says_who_can_work_with_it() -> None:
    scripts = ScriptDirectory(str(SCRIPTS))
    assert scripts.get_heads() == [HEAD]
    for script in scripts.walk_revisions():
        assert script.module.oldest <= script.revision
    newest = scripts.get_revision(HEAD)
    assert newest.module.oldest == OLDEST


async def test_a_second_start_changes_nothing(database: Database) -> None:
    before = await asked(database, "SELECT * FROM schema_versions")
    await migrate(database, ManualClock())
    assert await asked(database, "SELECT * FROM schema_versions") == before


async def test_two_processes_that_start_at_once_make_one_schema(empty_url: str) -> None:
    assert await asyncio.to_thread(started_at_once, [empty_url] * 3) == ["migrated"] * 3
    database = connect(empty_url)
    assert await asked(database, "SELECT count(*) FROM schema_versions") == [(1,)]
    await database.close()


async def test_databases_of_one_server_make_the_same_roles_at_once() -> None:
    with hosted_postgres() as server:  # one that has no such roles yet
        urls = [server.create_database(f"roles_{number}") for number in range(3)]
        assert await asyncio.to_thread(started_at_once, urls) == ["migrated"] * 3
        for url in urls:
            database = connect(url)
            await put(database, "works")
            assert await names(database, "org-a") == ["works"]
            await database.close()


async def test_a_login_that_may_not_make_roles_is_told_so_and_works_once_an_operator_made_them(
    postgres: PostgresServer,
) -> None:
    postgres.sql("CREATE ROLE modest LOGIN")
    postgres.sql("CREATE DATABASE modest OWNER modest")
    database = connect(postgres.url("modest", user="modest"))
    try:
        assert "ostiary_app" in await refusal(database)
        assert await asked(database, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace") == []
        postgres.sql("GRANT ostiary_app, ostiary_instance TO modest")
        await migrate(database, ManualClock())
        await put(database, "works")
        assert await names(database, "org-a") == ["works"]
    finally:
        await database.close()
        postgres.drop_database("modest")
        postgres.sql("DROP ROLE modest")


# --- what is not ours, or not whole ---


async def test_a_database_of_somebody_else_is_refused_and_left_alone(empty_url: str) -> None:
    database = connect(empty_url)
    await run(database, "CREATE TABLE usage_daily (mine TEXT)")
    assert "empty database" in await refusal(database)
    async with database.own(alone=False) as connection:
        assert await connection.run_sync(lambda sync: inspect(sync).get_table_names()) == ["usage_daily"]
    await database.close()


async def test_a_schema_that_lacks_a_column_is_refused(database: Database) -> None:
    await run(database, "ALTER TABLE budgets DROP COLUMN soft_budget")
    assert "budgets.soft_budget" in await refusal(database)


async def test_a_half_made_schema_is_refused(database: Database) -> None:
    await run(database, "DROP TABLE alembic_version")
    assert "none says that it is Ostiary's" in await refusal(database)


async def test_a_version_that_no_migration_knows_is_refused(database: Database) -> None:
    await run(database, "UPDATE alembic_version SET version_num = '0000<script>'")
    public = await refusal(database)
    assert "0000script" in public


async def test_a_newer_schema_is_refused_and_left_alone(database: Database) -> None:
    await run(database, "UPDATE alembic_version SET version_num = '9999'")
    assert "9999" in await refusal(database)
    await run(database, "INSERT INTO schema_versions VALUES ('9999', '9998', 1)")
    assert "newer program" in await refusal(database)
    assert await asked(database, "SELECT version_num FROM alembic_version") == [("9999",)]


async def test_a_newer_schema_that_says_this_program_can_use_it_is_used(database: Database) -> None:
    await run(
        database,
        "UPDATE alembic_version SET version_num = '0002'",
        f"INSERT INTO schema_versions VALUES ('0002', '{HEAD}', 1)",
    )
    await migrate(database, ManualClock())
    await put(database, "works")


# --- one version and the next, side by side ---

NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
oldest = "0001"

def upgrade():
    op.add_column("settings", sa.Column("note", sa.LargeBinary(), nullable=True))
{then}
"""


@contextmanager
def next_version(directory: Path, monkeypatch: pytest.MonkeyPatch, then: str = "") -> Iterator[None]:
    """The program as it would be one version later: with one more migration."""
    (directory / "versions").mkdir(parents=True)
    for name in ("env.py", "versions/v0001_first.py"):
        (directory / name).write_text((SCRIPTS / name).read_text())
    (directory / "versions" / "v0002_next.py").write_text(NEXT.format(then=then))

    def upgrade(config: Config, revision: str) -> None:
        config.set_main_option("script_location", str(directory))
        original(config, revision)

    original = command.upgrade
    with monkeypatch.context() as patched:
        patched.setattr(command, "upgrade", upgrade)
        patched.setattr(module, "HEAD", "0002")
        yield


async def test_the_old_program_and_the_new_one_work_side_by_side(
    database: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = connect(database_url)
    await put(database, "before")  # the old program runs, with connections and statements of its own
    with next_version(tmp_path / "next", monkeypatch):
        await migrate(new, ManualClock())
    assert await asked(new, "SELECT version, oldest FROM schema_versions ORDER BY 1") == [
        ("0001", "0001"),
        ("0002", "0001"),
    ]
    await put(database, "old")
    async with new.write("org-a") as connection:
        await connection.execute(text("UPDATE settings SET note = details WHERE name = 'old'"))
    await put(new, "new")
    assert await names(database) == await names(new) == ["before", "new", "old"]
    restarted = connect(database_url)
    await migrate(restarted, ManualClock())  # the old program starts again on the newer schema
    await put(restarted, "again")
    async with new.read() as connection:
        found = await connection.execute(text("SELECT name FROM settings WHERE note IS NOT NULL"))
        assert found.scalars().all() == ["old"]
    await restarted.close()
    await new.close()


async def test_a_migration_that_fails_is_undone_and_stops_the_start(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(database, "kept")
    with next_version(tmp_path / "next", monkeypatch, then='    op.execute("SELECT canary FROM nowhere")'):
        public = await refusal(database)
    assert "failed and was undone" in public
    assert "canary" not in public
    assert await asked(database, "SELECT version_num FROM alembic_version") == [(HEAD,)]
    async with database.own(alone=False) as connection:
        columns = await connection.run_sync(lambda sync: inspect(sync).get_columns("settings"))
    assert "note" not in {column["name"] for column in columns}
    await migrate(database, ManualClock())
    assert await names(database) == ["kept"]


PROGRAM = """
import asyncio, sys
from ostiary.store.database import connect
from ostiary.store.migrate import migrate
class Clock:
    def now(self): return 1.0
    def monotonic(self): return 1.0
async def main():
    database = connect(sys.argv[1])
    await migrate(database, Clock())
    await database.close()
asyncio.run(main())
print("migrated", *(name for name in ("alembic", "asyncpg", "sqlalchemy.dialects.postgresql") if name in sys.modules))
"""


def started_at_once(urls: list[str]) -> list[str]:
    """What programs say that migrate these databases, all at the same time."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    programs = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, url], stdout=subprocess.PIPE, text=True, env=environment)
        for url in urls
    ]
    said = [program.communicate(timeout=60)[0].split() for program in programs]
    return [" ".join(words[:1]) for words in said] if len(urls) > 1 else [" ".join(said[0])]


def test_neither_an_empty_file_nor_a_current_schema_loads_alembic_or_the_other_engine(tmp_path: Path) -> None:
    for _ in range(2):
        assert started_at_once([f"sqlite:///{tmp_path}/ostiary.db"]) == ["migrated"]


async def test_sqlite_refuses_to_migrate_what_another_process_keeps_locked(tmp_path: Path) -> None:
    database, other = connect(f"sqlite:///{tmp_path}/a.db"), connect(f"sqlite:///{tmp_path}/a.db")
    async with other.own(alone=True):
        assert "another process" in await refusal(database, Kind.UNAVAILABLE)
    await migrate(database, ManualClock())
    await database.close()
    await other.close()
