"""Every column that there is has a class, a meaning and a time to stay, and the engines hold no other columns."""

from __future__ import annotations

from sqlalchemy import Column, Integer, LargeBinary, MetaData, Table, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection

from ostiary.store.database import Database, connect
from ostiary.store.inventory import REGIONS, TABLES, entries, stored_data_markdown, tables, text_measures, words
from ostiary.store.keystore import DatabaseKeySlots
from ostiary.store.schema import metadata
from ostiary.store.schema.columns import Class, class_of, sealed

OF_ALEMBIC = {("alembic_version", "version_num")}


async def live_columns(connection: AsyncConnection) -> set[tuple[str, str]]:
    """Every column of every table and view that the engine has of its own knowledge, partitions included."""

    def look(bound: object) -> set[tuple[str, str]]:
        found = inspect(bound)
        names = [*found.get_table_names(), *found.get_view_names()]  # type: ignore[union-attr]
        return {(name, str(column["name"])) for name in names for column in found.get_columns(name)}  # type: ignore[union-attr]

    return await connection.run_sync(look)


def undeclared(live: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Columns that the inventory does not know. A partition has the columns of its table."""
    known = {(entry.table, entry.column) for entry in entries()} | OF_ALEMBIC
    return {(name, column) for name, column in live if (partition_of(name), column) not in known}


def partition_of(name: str) -> str:
    return "usage" if name == "usage_default" or name.startswith("usage_p2") else name


def without_class(*of: MetaData) -> list[str]:
    return [f"{entry.table}.{entry.column}" for entry in entries(*of) if entry.class_ is None or not entry.meaning]


def test_cry_12_every_column_has_a_class_and_a_meaning() -> None:
    assert without_class() == []
    assert len(entries()) > 200


def test_cry_12_a_column_without_a_class_is_noticed() -> None:
    planted = MetaData()
    Table("planted", planted, Column("id", Integer, primary_key=True), sealed("details", "a name"))
    assert without_class(planted) == ["planted.id"]


def test_every_table_has_a_purpose_and_a_time_to_stay() -> None:
    assert {table.name for table in tables()} == set(TABLES)
    page = stored_data_markdown()
    assert all(f"`{name}`" in page for name in TABLES)


def test_sealed_and_hashed_columns_hold_bytes_and_nothing_that_can_be_read() -> None:
    wrong = [
        f"{one.name}.{column.name}"
        for one in metadata.tables.values()
        for column in one.c
        if class_of(column) in (Class.SEALED, Class.HASHED) and not isinstance(column.type, LargeBinary)
    ]
    assert wrong == []


def test_every_text_that_can_be_read_is_of_a_closed_set() -> None:
    assert set(text_measures()) - REGIONS == set(words())


async def test_cry_12_the_database_has_the_declared_columns_and_no_other(database: Database) -> None:
    async with database.own(alone=False) as connection:
        live = await live_columns(connection)
    assert undeclared(live) == set()
    declared = {(one.name, str(column.name)) for one in metadata.tables.values() for column in one.c}
    assert declared - live == set()


async def test_cry_12_a_column_that_was_added_past_the_schema_is_noticed(database: Database) -> None:
    async with database.own(alone=True) as connection:
        await connection.execute(text("ALTER TABLE virtual_keys ADD COLUMN comment TEXT"))
        await connection.execute(text("CREATE TABLE prompts (said TEXT)"))
        live = await live_columns(connection)
    assert undeclared(live) == {("virtual_keys", "comment"), ("prompts", "said")}


async def test_cry_12_the_keystore_has_the_declared_columns_and_no_other(database_url: str) -> None:
    slots = DatabaseKeySlots(database_url)
    await slots.prepare()
    await slots.close()
    keystore = connect(database_url)
    async with keystore.own(alone=False) as connection:
        live = await live_columns(connection)
    await keystore.close()
    assert undeclared(live) == set()
    assert {table.name for table in tables() if table.name.startswith("keystore")} <= {name for name, _ in live}
