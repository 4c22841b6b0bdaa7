"""A store belongs to one instance, waits for its database, and refuses what is not its own."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from engine_kit import START, ManualClock, names, put
from sqlalchemy import func, insert, select, text

from ostiary.core.fault import Fault, Kind
from ostiary.store import partitions
from ostiary.store.database import Database, connect
from ostiary.store.instance import NOT_YET, Store, default_organization, open_store
from ostiary.store.keystore import DatabaseKeySlots
from ostiary.store.schema.ledger import names as named
from ostiary.store.schema.people import organizations
from ostiary.store.schema.stamp import stamp
from ostiary.testing.postgres import PostgresServer, hosted_postgres
from ostiary.vault.keyring import Keyring, open_keyring
from ostiary.vault.master import MasterKey
from ostiary.vault.wrapper import LocalSeal


@pytest.fixture
async def store(database_url: str, keyring: Keyring, clock: ManualClock) -> AsyncIterator[Store]:
    opened = open_store(database_url, keyring, clock)
    yield opened
    await opened.close()


@pytest.fixture
async def stranger(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Keyring]:
    """The keys of another instance, in another region."""
    slots = DatabaseKeySlots(f"sqlite:///{tmp_path}/stranger/keystore.db")
    seal = LocalSeal(MasterKey(bytes(range(32)), "test"))
    yield await open_keyring(slots, lambda: [seal], clock, region="us")
    await slots.close()


async def stamps(store: Store) -> list[tuple[Any, ...]]:
    async with store._raw.read() as connection:
        return [tuple(row) for row in await connection.execute(select(stamp))]


async def refusal(store: Store, kind: Kind = Kind.INTERNAL) -> str:
    """Why a store cannot be prepared; nobody passes then, and everybody is told the same."""
    with pytest.raises(Fault) as caught:
        await store.prepare()
    assert caught.value.kind is kind
    with pytest.raises(Fault) as shut:
        await names(store.database)
    assert (shut.value.kind, shut.value.public) == (Kind.UNAVAILABLE, caught.value.public)
    assert store.waits_for == caught.value.public
    return caught.value.public


# --- the first start, and the next ---


async def test_nothing_passes_until_the_store_is_prepared(store: Store) -> None:
    for verb in (names(store.database), put(store.database, "x"), names(store.database, "org-a")):
        with pytest.raises(Fault) as caught:
            await verb
        assert (caught.value.kind, caught.value.public) == (Kind.UNAVAILABLE, NOT_YET)
    await store.prepare()
    assert store.waits_for is None
    await put(store.database, "x")


async def test_the_first_start_stamps_the_database_and_makes_the_default_organisation(store: Store) -> None:
    await store.prepare()
    ((_, instance, region, default_org, created, _),) = await stamps(store)
    assert (instance, region, created) == (store.instance, "local", START)
    assert default_org == store.default_org == default_organization(store.instance)
    async with store.database.read(default_org) as connection:
        assert (await connection.execute(select(organizations.c.id))).scalars().all() == [default_org]
    assert (await store.keyring.organization(default_org)).id == default_org


async def test_further_starts_find_what_the_first_one_made(
    store: Store, database_url: str, keyring: Keyring, clock: ManualClock
) -> None:
    await store.prepare()
    before = await stamps(store)
    clock.at += 86_400_000
    again = open_store(database_url, keyring, clock)
    for _ in range(2):
        await again.prepare()
        assert await stamps(again) == before
    await again.close()


async def test_usage_has_months_from_the_first_start_on(store: Store) -> None:
    await store.prepare()
    expected = 4 if store.database.dialect.name == "postgresql" else 0
    assert len(await partitions.months(store.database)) == expected


async def test_processes_that_start_at_once_agree(database_url: str, tmp_path: Path) -> None:
    program = """
import asyncio, sys
from ostiary.store.instance import open_store
from ostiary.store.keystore import DatabaseKeySlots
from ostiary.vault.keyring import open_keyring
from ostiary.vault.master import MasterKey
from ostiary.vault.wrapper import LocalSeal
class Clock:
    def now(self): return 1790000000.0
    def monotonic(self): return 1.0
async def main():
    slots = DatabaseKeySlots(sys.argv[2])
    seal = LocalSeal(MasterKey(bytes(range(32)), "test"))
    store = open_store(sys.argv[1], await open_keyring(slots, lambda: [seal], Clock()), Clock())
    await store.prepare()
    print(store.instance, store.default_org)
    await store.close()
    await slots.close()
asyncio.run(main())
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    command = [sys.executable, "-c", program, database_url, f"sqlite:///{tmp_path}/keys/keystore.db"]

    def started() -> list[str]:
        programs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(3)]
        return [one.communicate(timeout=60)[0] for one in programs]

    said = await asyncio.to_thread(started)
    assert len(set(said)) == 1
    assert said[0].strip()
    database = connect(database_url)
    async with database.read() as connection:
        for table in (stamp, organizations):
            assert (await connection.execute(select(func.count()).select_from(table))).scalar() == 1
    await database.close()


# --- a database that is away ---


@pytest.mark.attack("AVL-04")
async def test_avl_04_a_store_whose_database_is_down_at_boot_is_ready_once_it_is_back(
    keyring: Keyring, clock: ManualClock
) -> None:
    with hosted_postgres() as server:
        store = open_store(server.create_database("late"), keyring, clock)
        server.stop()
        assert await refusal(store, Kind.UNAVAILABLE) == "the database cannot be reached"
        assert store.default_org
        server.start()
        await store.prepare()
        await put(store.database, "x")
        assert await names(store.database) == ["x"]
        await store.close()


@pytest.mark.attack("AVL-04")
async def test_avl_04_a_store_starts_on_a_database_that_can_only_be_read(keyring: Keyring, clock: ManualClock) -> None:
    with hosted_postgres() as server:
        url = server.create_database("standby")
        store = open_store(url, keyring, clock)
        await store.prepare()
        await store.close()
        server.stop()
        server.start(default_transaction_read_only="on")
        store = open_store(url, keyring, clock)
        await store.prepare()
        assert await names(store.database) == []
        with pytest.raises(Fault) as caught:
            await put(store.database, "x")
        assert "only be read" in caught.value.public
        await store.close()


# --- what is not ours ---


async def test_a_database_of_another_instance_is_refused_and_left_alone(
    store: Store, stranger: Keyring, database_url: str, clock: ManualClock
) -> None:
    await store.prepare()
    before = await stamps(store)
    other = open_store(database_url, stranger, clock)
    public = await refusal(other)
    assert store.instance in public
    assert other.instance in public
    assert await stamps(store) == before
    async with store.database.read() as connection:
        assert (await connection.execute(select(organizations.c.id))).scalars().all() == [store.default_org]
    await other.close()


@pytest.mark.parametrize(
    ("edit", "word"),
    [
        ("UPDATE stamp SET region = 'mars'", "region mars"),
        ("UPDATE stamp SET created_at = 1", "edited"),
        ("UPDATE stamp SET default_org = 'org-b'", "edited"),
        ("DELETE FROM stamp", "lost the row"),
    ],
)
@pytest.mark.attack("CRY-02")
async def test_cry_02_a_stamp_that_was_edited_or_removed_is_refused(store: Store, edit: str, word: str) -> None:
    await store.prepare()
    async with store._raw.own(alone=True) as connection:
        await connection.execute(text(edit))
    assert word in await refusal(store)


async def test_a_store_that_is_closed_lets_nobody_pass(store: Store) -> None:
    await store.prepare()
    await store.close()
    with pytest.raises(Fault):
        await names(store.database)


# --- files ---


@pytest.fixture
async def filed(tmp_path: Path, keyring: Keyring, clock: ManualClock) -> AsyncIterator[Store]:
    """A store on an SQLite file."""
    opened = open_store(f"sqlite:///{tmp_path}/data/ostiary.db", keyring, clock)
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    "content", [b"not a database, but a text of some length" * 100, b"SQLite format 3\0" + b"x" * 5000]
)
async def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(
    filed: Store, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "data" / "ostiary.db"
    file.parent.mkdir()
    file.write_bytes(content)
    assert "damaged" in await refusal(filed, Kind.UNAVAILABLE)
    assert file.read_bytes() == content


async def test_a_damaged_file_is_refused(filed: Store, tmp_path: Path) -> None:
    await filed.prepare()
    await filed.close()
    file = tmp_path / "data" / "ostiary.db"
    file.write_bytes(file.read_bytes()[:8192])  # its end is missing
    assert "damaged" in await refusal(filed, Kind.UNAVAILABLE)


async def test_a_directory_in_place_of_the_file_is_refused(filed: Store, tmp_path: Path) -> None:
    (tmp_path / "data" / "ostiary.db").mkdir(parents=True)
    await refusal(filed, Kind.UNAVAILABLE)


@pytest.mark.attack("AVL-03")
async def test_avl_03_a_disk_that_is_full_is_said_loses_nothing_and_is_over_when_there_is_space(
    filed: Store, tmp_path: Path
) -> None:
    await filed.prepare()
    await put(filed.database, "kept")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = sum(file.stat().st_size for file in (tmp_path / "data").iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with pytest.raises(Fault) as caught:
            await fill(filed.database)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.kind is Kind.UNAVAILABLE
    assert "disk" in caught.value.public
    assert await names(filed.database) == ["kept"]
    await put(filed.database, "after")


async def fill(database: Database) -> None:
    row = {"org_id": "o", "details": bytes(100_000), "kind": "model", "created_at": 1, "revision": 1}
    async with database.write() as connection:
        await connection.execute(text("PRAGMA defer_foreign_keys=ON"))
        for number in range(20):
            given = {**row, "id": number + 1, "name_index": number.to_bytes(16, "big")}
            await connection.execute(insert(named), given)


@contextmanager
def nothing_writable(directory: Path) -> Iterator[None]:
    """As whoever may read a directory and its files, and not write them: root becomes somebody else meanwhile."""
    before = {path: path.stat().st_mode for path in (directory, *directory.iterdir())}
    for path in before:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if root := os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path, mode in before.items():
            path.chmod(mode)


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory that everybody can reach; those that pytest makes are its user's alone."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.mark.attack("AVL-03")
async def test_avl_03_a_file_that_can_only_be_read_is_refused_with_what_to_do_until_it_can_be_written(
    reachable: Path, keyring: Keyring, clock: ManualClock
) -> None:
    url = f"sqlite:///{reachable}/ostiary.db"
    store = open_store(url, keyring, clock)
    await store.prepare()
    await store.close()
    store = open_store(url, keyring, clock)
    with nothing_writable(reachable):
        assert "only be read" in await refusal(store, Kind.UNAVAILABLE)
    await store.prepare()
    await put(store.database, "x")
    await store.close()


def test_the_default_organisation_is_a_function_of_the_instance() -> None:
    one = "01934f00-0000-7000-8000-000000000001"
    assert default_organization(one) == default_organization(one) != default_organization(one[:-1] + "2")
    assert default_organization(one)[:13] == one[:13]
    assert default_organization(one)[14] == "7"


def test_postgres_is_a_server_of_this_run(postgres: PostgresServer) -> None:
    assert int(postgres.sql("SHOW server_version_num")[0][0]) >= 150000
