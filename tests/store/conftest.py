"""Databases for the tests of the store: a fresh one for each test, on both engines, with the schema in it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from engine_kit import ManualClock

from ostiary.store.database import Database, connect
from ostiary.store.keystore import DatabaseKeySlots
from ostiary.store.migrate import migrate
from ostiary.testing.postgres import PostgresServer, hosted_postgres
from ostiary.vault.keyring import Keyring, open_keyring
from ostiary.vault.master import MasterKey
from ostiary.vault.wrapper import LocalSeal

TEMPLATE = "template_ostiary"


@pytest.fixture
def clock() -> ManualClock:
    """A clock at START."""
    return ManualClock()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for the whole session. Who stops or freezes it takes one of his own."""
    with hosted_postgres() as server:
        url = server.create_database(TEMPLATE)
        asyncio.run(_migrated(url))
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database with the schema and nothing in it (SQLite: of no file yet)."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/data/ostiary.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"test_{secrets.token_hex(6)}"
    yield server.create_database(name, TEMPLATE)
    server.drop_database(name)


@pytest.fixture
async def database(database_url: str, clock: ManualClock) -> AsyncIterator[Database]:
    """A database with the schema and nothing in it, on SQLite and on PostgreSQL."""
    opened = connect(database_url)
    try:
        await migrate(opened, clock)
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def keyring(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Keyring]:
    """The keys of an instance, in a keystore of this test's own."""
    slots = DatabaseKeySlots(f"sqlite:///{tmp_path}/keys/keystore.db")
    wrapper = LocalSeal(MasterKey(secrets.token_bytes(32), "test"))
    try:
        yield await open_keyring(slots, lambda: [wrapper], clock)
    finally:
        await slots.close()


async def _migrated(url: str) -> None:
    database = connect(url)
    try:
        await migrate(database, ManualClock())
    finally:
        await database.close()
