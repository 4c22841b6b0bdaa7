"""A backup restores into either engine as it was, opens for its own instance only, and replaces nothing."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from backup_kit import ONE, OTHER, SAID, content, fill, keyring_at, opened, row_of_everything
from sqlalchemy import Table, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from conftest import ManualClock
from ostiary.core.fault import Fault
from ostiary.store import backup as backups
from ostiary.store.backup import back_up, kept_tables
from ostiary.store.database import Database, connect
from ostiary.store.keystore import DatabaseKeySlots
from ostiary.store.migrate import migrate
from ostiary.store.restore import examine, restore
from ostiary.store.schema.access import key_spend
from ostiary.store.schema.stamp import schema_versions
from ostiary.testing.postgres import PostgresServer
from ostiary.vault.hierarchy import add_versions, destroy_retired, destroy_scope, promote_versions
from ostiary.vault.keyring import Keyring
from ostiary.vault.keystore_file import keystore_copy, restore_keystore
from ostiary.vault.master import MasterKey
from ostiary.vault.scope import INSTANCE
from ostiary.vault.wrapper import LocalSeal

ENGINES = ["sqlite", "postgresql"]


@pytest.fixture
async def keyring(tmp_path: Path) -> AsyncIterator[Keyring]:
    """The keys of an instance, in a keystore of their own."""
    made = await keyring_at(tmp_path / "keys" / "keystore.db")
    yield made
    await made.slots.close()


@pytest.fixture(params=ENGINES)
def target_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database without a schema, on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/restored/ostiary.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"restored_{os.urandom(4).hex()}"
    yield server.create_database(name)
    server.drop_database(name)


@pytest.fixture
async def target(target_url: str) -> AsyncIterator[Database]:
    """An empty database without a schema."""
    made = connect(target_url)
    yield made
    await made.close()


async def test_a_backup_restores_into_either_engine_as_it_was(
    database: Database, target: Database, keyring: Keyring, clock: ManualClock, tmp_path: Path
) -> None:
    await fill(database, keyring)
    made = await back_up(database, keyring, clock, tmp_path / "backup")
    assert set(made.rows) == {table.name for table in kept_tables()}
    assert min(made.rows.values()) > 0  # a row in every table
    found = await restore(target, keyring, clock, tmp_path / "backup")
    assert (dict(found.rows), dict(found.left_out)) == (dict(made.rows), {})
    assert await content(target) == await content(database)
    assert len(await opened(target, keyring, ONE)) == len(await opened(database, keyring, ONE)) > 8


async def test_the_file_is_private_complete_and_shows_its_head_only(
    database: Database, keyring: Keyring, clock: ManualClock, tmp_path: Path
) -> None:
    await fill(database, keyring)
    path = tmp_path / "out" / "backup"
    path.parent.mkdir()
    made = await back_up(database, keyring, clock, path)
    data = path.read_bytes()
    assert (stat.S_IMODE(path.stat().st_mode), len(data), os.listdir(path.parent)) == (0o600, made.size, ["backup"])
    assert keyring.instance_id.encode() in data[:400]
    assert keyring.master.encode() in data[:400]
    for secret in (SAID, ONE, "usage_daily", "request-0-0", f"key-of-{ONE}"):  # ids and measures neither
        assert secret.encode() not in data
    contents = await keyring.slots.read()
    assert not any(key.wrapped in data for key in contents.keys)


async def test_a_backup_never_replaces_a_file(
    database: Database, keyring: Keyring, clock: ManualClock, tmp_path: Path
) -> None:
    await fill(database, keyring)
    (tmp_path / "backup").write_text("precious")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("backup", "dangling"):
        with pytest.raises(Fault) as refusal:
            await back_up(database, keyring, clock, tmp_path / name)
        assert "exists" in refusal.value.public
    assert (tmp_path / "backup").read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


async def test_a_file_that_comes_meanwhile_is_not_replaced_either(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    with pytest.raises(Fault), backups.fresh_file(path) as file:  # noqa: PT012
        file.write(b"mine")
        path.write_text("precious")
    assert (path.read_text(), os.listdir(tmp_path)) == ("precious", ["backup"])


async def test_a_disk_that_is_full_leaves_nothing_behind(
    database: Database, keyring: Keyring, clock: ManualClock, tmp_path: Path
) -> None:
    await fill(database, keyring)
    with pytest.raises(Fault) as refusal:
        await back_up(database, keyring, clock, tmp_path / "missing" / "backup")
    assert "cannot be written" in refusal.value.public
    with pytest.raises(Fault, match="invalid_request"), backups.fresh_file(tmp_path / "full") as file:  # noqa: PT012
        with open("/dev/full", "wb", buffering=0) as full:
            os.dup2(full.fileno(), file.fileno())
        file.write(b"x" * 100_000)
    assert not [name for name in os.listdir(tmp_path) if "full" in name]


async def test_a_backup_is_one_moment_while_others_write(
    database: Database, target: Database, keyring: Keyring, clock: ManualClock, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Money moves from one window to another all the time: the sum is always the same."""
    await fill(database, keyring, [ONE])
    rows = [
        {"org_id": ONE, "key_id": "k", "window_start": number, "cost": 1_000_000 if number < 500 else 0}
        for number in range(1000)
    ]
    async with database.write() as connection:
        await connection.execute(insert(key_spend), rows)
    moved, ended = 0, asyncio.Event()

    async def move() -> None:
        nonlocal moved
        while not ended.is_set():
            async with database.write() as connection:
                for at, by in ((moved % 500, -1), (500 + moved % 500, 1)):
                    window = (key_spend.c.key_id == "k") & (key_spend.c.window_start == at)
                    await connection.execute(update(key_spend).where(window).values(cost=key_spend.c.cost + by))
            moved += 1

    read_rows = backups._rows

    async def read_slowly(connection: AsyncConnection, table: Table) -> AsyncIterator[tuple[Any, ...]]:
        """In the middle of the table, the writer is waited for."""
        seen = 0
        async for row in read_rows(connection, table):
            yield row
            seen += 1
            if table is key_spend and seen == 500:
                before = moved
                while moved < before + 20:
                    await asyncio.sleep(0)

    monkeypatch.setattr(backups, "MANY", 10)
    monkeypatch.setattr(backups, "_rows", read_slowly)
    async with asyncio.TaskGroup() as group:
        group.create_task(move())
        while moved < 5:
            await asyncio.sleep(0)
        await back_up(database, keyring, clock, tmp_path / "backup")
        ended.set()
    assert moved > 20
    await restore(target, keyring, clock, tmp_path / "backup")
    costs = [row[3] for row in (await content(target))["key_spend"] if row[1] == "k"]
    assert (len(costs), sum(costs)) == (1000, 500_000_000)


async def test_a_restore_into_a_database_with_rows_is_refused(
    database: Database, keyring: Keyring, clock: ManualClock, tmp_path: Path
) -> None:
    await fill(database, keyring)
    await back_up(database, keyring, clock, tmp_path / "backup")
    before = await content(database)
    with pytest.raises(Fault) as refusal:
        await restore(database, keyring, clock, tmp_path / "backup")
    assert "not empty" in refusal.value.public
    assert await content(database) == before


async def test_a_database_of_somebody_else_is_left_alone(
    keyring: Keyring, clock: ManualClock, tmp_path: Path, postgres: PostgresServer
) -> None:
    source = connect(f"sqlite:///{tmp_path}/ostiary.db")
    await migrate(source, clock)
    await fill(source, keyring)
    await back_up(source, keyring, clock, tmp_path / "backup")
    await source.close()
    foreign = connect(postgres.create_database("foreign"))
    postgres.sql("CREATE TABLE theirs AS SELECT 1 AS x", "foreign")
    with pytest.raises(Fault) as refusal:
        await restore(foreign, keyring, clock, tmp_path / "backup")
    await foreign.close()
    assert "empty database of its own" in refusal.value.public
    assert postgres.sql("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname !~ '^(pg_|sql_)'", "foreign") == [
        ["theirs"]
    ]
    postgres.drop_database("foreign")


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.9, 0.9999])
async def test_cry_01_a_damaged_backup_writes_nothing(
    database: Database, target: Database, keyring: Keyring, clock: ManualClock, tmp_path: Path, cut: float
) -> None:
    await fill(database, keyring)
    path = tmp_path / "backup"
    await back_up(database, keyring, clock, path)
    data = bytearray(path.read_bytes())
    (tmp_path / "cut").write_bytes(data[: int(len(data) * cut)])
    data[int(len(data) * cut)] ^= 1
    (tmp_path / "flipped").write_bytes(data)
    await migrate(target, clock)
    for name in ("cut", "flipped"):
        with pytest.raises(Fault):
            await restore(target, keyring, clock, tmp_path / name)
    assert not any((await content(target)).values())


async def test_a_restore_that_fails_half_way_is_undone(
    database: Database, target: Database, keyring: Keyring, clock: ManualClock, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    await fill(database, keyring)
    await back_up(database, keyring, clock, tmp_path / "backup")

    async def fails(*_: object) -> None:
        raise OSError("the line is cut")

    monkeypatch.setattr("ostiary.store.restore._check_counts", fails)
    with pytest.raises(Fault):
        await restore(target, keyring, clock, tmp_path / "backup")
    assert not any((await content(target)).values())
    monkeypatch.undo()
    await restore(target, keyring, clock, tmp_path / "backup")  # and nothing stands in the way of the next attempt
    assert await content(target) == await content(database)


async def test_cry_02_a_backup_opens_on_its_own_instance_only(
    database: Database, keyring: Keyring, clock: ManualClock, tmp_path: Path
) -> None:
    await fill(database, keyring)
    await back_up(database, keyring, clock, tmp_path / "backup")
    other = await keyring_at(tmp_path / "other" / "keystore.db")
    with pytest.raises(Fault) as refusal:
        await examine(other, tmp_path / "backup")
    await other.slots.close()
    assert keyring.instance_id in refusal.value.public
    assert keyring.master in refusal.value.public


async def test_a_database_of_another_instance_is_not_backed_up_under_these_keys(
    database: Database, keyring: Keyring, clock: ManualClock, tmp_path: Path
) -> None:
    await fill(database, keyring)
    other = await keyring_at(tmp_path / "other" / "keystore.db")
    with pytest.raises(Fault) as refusal:
        await back_up(database, other, clock, tmp_path / "backup")
    await other.slots.close()
    assert keyring.instance_id in refusal.value.public
    assert not (tmp_path / "backup").exists()


async def test_an_empty_database_is_not_backed_up(
    database: Database, keyring: Keyring, clock: ManualClock, tmp_path: Path
) -> None:
    with pytest.raises(Fault) as refusal:
        await back_up(database, keyring, clock, tmp_path / "backup")
    assert "empty" in refusal.value.public


async def test_a_schema_that_this_program_does_not_know_whole_is_not_backed_up(
    database: Database, keyring: Keyring, clock: ManualClock, tmp_path: Path
) -> None:
    await fill(database, keyring)
    async with database.own(alone=True) as connection:
        await connection.execute(insert(schema_versions), {"version": "9999", "oldest": "0001", "applied_at": 1})
    with pytest.raises(Fault) as refusal:
        await back_up(database, keyring, clock, tmp_path / "backup")
    assert "9999" in refusal.value.public


async def test_a_keystore_from_before_lacks_keys_and_says_which(
    database: Database, keyring: Keyring, clock: ManualClock, tmp_path: Path
) -> None:
    """An organisation that came after the keystore's backup: its rows would be lost without a word."""
    await fill(database, keyring, [ONE])
    old = await keystore_copy(keyring.slots)
    await fill_other(database, keyring)
    await back_up(database, keyring, clock, tmp_path / "backup")
    before = await restored_keyring(tmp_path, old)
    with pytest.raises(Fault) as refusal:
        await examine(before, tmp_path / "backup")
    await before.slots.close()
    assert OTHER in refusal.value.public
    assert any(key.id.hex() in refusal.value.public for key in (await keyring.slots.read([OTHER])).keys)


async def test_a_backup_from_before_a_rotation_asks_for_its_keystore(
    database: Database, keyring: Keyring, clock: ManualClock, tmp_path: Path
) -> None:
    await fill(database, keyring)
    await back_up(database, keyring, clock, tmp_path / "backup")
    then = await keystore_copy(keyring.slots)
    await add_versions(keyring, INSTANCE)
    await promote_versions(keyring, INSTANCE)
    await examine(keyring, tmp_path / "backup")  # as long as the old key is there
    await destroy_retired(keyring, INSTANCE)
    with pytest.raises(Fault) as refusal:
        await examine(keyring, tmp_path / "backup")
    assert "lacks the key" in refusal.value.public
    kept = await restored_keyring(tmp_path, then)
    await examine(kept, tmp_path / "backup")
    await kept.slots.close()


async def test_cry_13_a_destroyed_organisation_does_not_come_back_from_a_backup(
    database: Database, target: Database, keyring: Keyring, clock: ManualClock, tmp_path: Path
) -> None:
    await fill(database, keyring)
    await back_up(database, keyring, clock, tmp_path / "backup")
    await destroy_scope(keyring, OTHER)
    found = await restore(target, keyring, clock, tmp_path / "backup")
    assert found.left_out["usage"] == 3
    assert found.left_out["organizations"] == 1
    rows = await content(target)
    assert OTHER in repr(await content(database))
    shown = {name for name, all_rows in rows.items() if any(OTHER in map(str, row) for row in all_rows)}
    assert shown == set()
    assert len(await opened(target, keyring, ONE)) == len(await opened(database, keyring, ONE))
    with pytest.raises(Fault):
        await opened(database, keyring, OTHER)


async def test_the_keystore_restores_where_none_is_and_with_its_master_key_only(
    keyring: Keyring, tmp_path: Path
) -> None:
    await keyring.create(ONE)
    copy = await keystore_copy(keyring.slots)
    with pytest.raises(Fault) as refusal:
        await restored_keyring(tmp_path, copy, MasterKey(os.urandom(32), "another"))
    assert keyring.master in refusal.value.public
    restored = await restored_keyring(tmp_path, copy)
    assert restored.instance_id == keyring.instance_id
    sealed = (await keyring.organization(ONE)).index("t", "c", "text")
    assert (await restored.organization(ONE)).index("t", "c", "text") == sealed
    with pytest.raises(Fault) as second:
        await restore_keystore(restored.slots, lambda: [LocalSeal(MasterKey(bytes(range(32)), "test"))], copy)
    assert "already" in second.value.public
    await restored.slots.close()


@pytest.mark.parametrize("change", [b"", b"ostiary keystore 2", None])
async def test_a_damaged_copy_of_the_keystore_is_refused(
    keyring: Keyring, tmp_path: Path, change: bytes | None
) -> None:
    copy = await keystore_copy(keyring.slots)
    damaged = copy[:-20] if change is None else change
    with pytest.raises(Fault):
        await restored_keyring(tmp_path, damaged)
    assert not (tmp_path / "again" / "keystore.db").exists()


async def fill_other(database: Database, keyring: Keyring) -> None:
    """A second organisation, in a database that has a stamp."""
    scope = await keyring.create(OTHER)
    for table in kept_tables():
        if table.name in ("organizations", "names"):
            async with database.write() as connection:
                await connection.execute(insert(table), await row_of_everything(table, keyring, scope.id, 7, 0))


async def restored_keyring(tmp_path: Path, copy: bytes, master: MasterKey | None = None) -> Keyring:
    """The keyring of a copy, in a keystore of its own."""
    slots = DatabaseKeySlots(f"sqlite:///{tmp_path}/again/keystore.db")
    try:
        await restore_keystore(slots, lambda: [LocalSeal(master or MasterKey(bytes(range(32)), "test"))], copy)
    finally:
        await slots.close()
    return await keyring_at(tmp_path / "again" / "keystore.db", master)


async def test_every_table_is_kept_but_those_that_migrations_write(database: Database, clock: ManualClock) -> None:
    async with database.own(alone=False) as connection:
        rows = (await connection.execute(select(schema_versions.c.version))).scalars().all()
    assert list(rows) == ["0001"]
    assert {"schema_versions"} == backups.LEFT_OUT
