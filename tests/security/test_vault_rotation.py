"""Rotation of keys: what is sealed moves, what is old opens nothing, and nobody who works meanwhile loses anything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import delete, insert, select, update
from vault_kit import CLOCK, Instance, content_of, filled

from ostiary.core.fault import Fault
from ostiary.store.database import Database
from ostiary.store.directory import Directory
from ostiary.store.instance import default_organization
from ostiary.store.keys import KeyRepository
from ostiary.store.names import Names
from ostiary.store.rewrap import Rewrapped, SealedValues
from ostiary.store.schema.access import virtual_keys
from ostiary.store.schema.audit import audit_events
from ostiary.store.schema.ledger import end_users
from ostiary.store.sealing import context
from ostiary.store.verify import verify
from ostiary.store.walk import Place
from ostiary.testing.postgres import hosted_postgres
from ostiary.vault.envelope import SealBroken, key_id_of
from ostiary.vault.keyring import Keyring, opened_root
from ostiary.vault.keystore import Contents, Holder, KeyState, SlotState
from ostiary.vault.master import load_master_key
from ostiary.vault.rotation import Rotation
from ostiary.vault.wrapper import LocalSeal


@pytest.fixture
async def instance(tmp_path: Path) -> Instance:
    """An instance with something of every kind in it."""
    made = Instance(tmp_path / "data")
    await filled(made, keys=9, end_users=30, models=2)
    return made


def silent(_line: str) -> None:
    """Nobody listens."""


def rotation(keyring: Keyring, values: SealedValues) -> Rotation:
    """One that waits for nobody who cannot be asked."""
    return Rotation(keyring, values, silent, grace=0.0)


def repository(keyring: Keyring, database: Database) -> KeyRepository:
    """Virtual keys."""
    book = Directory(database, keyring, CLOCK, default_organization(keyring.instance_id))
    return KeyRepository(database, keyring, CLOCK, book)


async def contents_of(instance: Instance) -> Contents:
    """The keystore as it is."""
    async with instance.keyring() as keyring:
        return await keyring.slots.read()


def files_of(instance: Instance) -> bytes:
    """Every byte of the keystore's files."""
    return b"".join(content_of(path) for path in sorted(instance.directory.glob("keystore.db*")))


async def test_after_a_rotation_old_keys_are_in_no_file_and_old_master_and_root_open_nothing(
    instance: Instance,
) -> None:
    before, old_master = await contents_of(instance), load_master_key(instance.directory, {})
    async with instance.keyring() as keyring:
        old_root = keyring.root
    done = instance.run("rotate", "--grace", "0")
    assert done.returncode == 0, done.stderr

    after, bytes_left = await contents_of(instance), files_of(instance)
    gone = [key for key in before.keys if key.purpose in ("db", "row-mac", "backup", "kek")]
    assert len(gone) == 4 * 3 + 1
    assert not {key.id for key in gone} & {key.id for key in after.keys}
    assert not any(key.wrapped[12:] in bytes_left for key in before.keys)
    assert not any(slot.wrapped[12:] in bytes_left for slot in before.slots)
    assert load_master_key(instance.directory, {}).id != old_master.id
    with pytest.raises(Fault, match="internal"):
        await opened_root(after, [LocalSeal(old_master)])
    for key in after.keys:
        if key.purpose == "kek":
            with pytest.raises(SealBroken):
                old_root.unwrapped(key)
    assert (await instance.verified()).broken == 0


async def test_progress_is_told_and_nothing_is_asked(instance: Instance) -> None:
    done = instance.run("rotate", "--data", "--grace", "0")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "new keys for 4 scopes"
    assert lines[2].startswith("sealed again: ")
    assert lines[-1].startswith("done: 13 old keys are destroyed")


@pytest.mark.attack("CRY-09")
async def test_cry_09_a_process_that_has_not_loaded_the_new_keys_is_waited_for(instance: Instance) -> None:
    async with instance.opened() as (keyring, database), instance.keyring() as replica:
        org = default_organization(keyring.instance_id)
        await replica.organization(org)
        began = replica.generation
        await keyring.slots.hold(Holder("replica", began, replica.now()))
        waiting: asyncio.Queue[str] = asyncio.Queue()
        turning = Rotation(keyring, SealedValues(database, keyring), waiting.put_nowait, grace=0.0)
        task = asyncio.create_task(turning.run())
        while "waiting" not in await waiting.get():
            pass
        states = {key.state for key in (await keyring.slots.read()).keys}
        assert states == {KeyState.PRIMARY, KeyState.DECRYPT_ONLY}  # nothing seals under the new keys yet

        await replica.refresh()
        await keyring.slots.hold(Holder("replica", replica.generation, replica.now()))
        while "waiting" not in await waiting.get():
            pass
        # in force, but the replica does not know: what it seals now is under a key that is old already
        written = await Names(database, replica, CLOCK).resolve([(org, "end_user", "in between")])
        assert not task.done()
        await replica.refresh()
        await keyring.slots.hold(Holder("replica", replica.generation, replica.now()))
        outcome = await task

        assert outcome.left == 0
        assert outcome.destroyed == 13
        assert (await verify(database, keyring)).broken == 0
        number = written[org, "end_user", "in between"]
        await replica.refresh()
        texts = await Names(database, replica, CLOCK).texts("end_user", [(org, number)])
        assert texts[number] == "in between"


class LateWriter(SealedValues):
    """Somebody with old keys adds a row, between the last look and the count."""

    def __init__(self, database: Database, keyring: Keyring, stale: Keyring) -> None:
        super().__init__(database, keyring)
        self.late = Names(database, stale, CLOCK)
        self.org = default_organization(keyring.instance_id)

    async def rewrap(self) -> Rewrapped:
        done = await super().rewrap()
        await self.late.resolve([(self.org, "end_user", "too late")])
        return done


@pytest.mark.attack("CRY-10")
async def test_cry_10_a_key_that_a_row_was_sealed_under_at_that_moment_stays(instance: Instance) -> None:
    async with instance.opened() as (keyring, database), instance.keyring() as stale:
        await stale.organization(default_organization(keyring.instance_id))
        outcome = await rotation(keyring, LateWriter(database, keyring, stale)).run()
        assert (outcome.left, outcome.destroyed) == (1, 0)
        old = [key for key in (await keyring.slots.read()).keys if key.state is KeyState.RETIRED]
        assert len([key for key in old if key.purpose == "db"]) == 4
        assert (await verify(database, keyring)).broken == 0

        again = await rotation(keyring, SealedValues(database, keyring)).run()
        assert (again.values, again.left, again.destroyed) == (1, 0, 13)


async def test_keys_are_not_destroyed_over_the_database_of_another_instance(instance: Instance, tmp_path: Path) -> None:
    other = Instance(tmp_path / "other")
    await filled(other, keys=1, end_users=1, models=1)
    before = {key.id for key in (await contents_of(instance)).keys}
    done = instance.run("rotate", "--data", "--grace", "0", environment={"DATABASE_URL": other.url})
    assert done.returncode == 1
    assert "the database is not that of the instance" in done.stderr
    assert before <= {key.id for key in (await contents_of(instance)).keys}


class Interrupted(SealedValues):
    """A caller changes each key after it was read and before it is written."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        super().__init__(database, keyring)
        self.keys = repository(keyring, database)
        self.done = False

    async def _changes(self, place: Place, rows: Sequence[Any], done: Rewrapped) -> list[dict[str, Any]]:
        changes = await super()._changes(place, rows, done)
        if place.table is virtual_keys and not self.done:
            self.done = True
            for row in await self.keys.after("", 100):
                changed = msgspec.structs.replace(row, alias=f"new {row.alias}", blocked=True)
                await self.keys.change(changed, revision=row.revision)
        return changes


async def test_whoever_changes_a_row_meanwhile_wins(instance: Instance) -> None:
    async with instance.opened() as (keyring, database):
        values = Interrupted(database, keyring)
        outcome = await rotation(keyring, values).run()
        assert (outcome.left, outcome.broken_rows) == (0, 0)
        rows = await repository(keyring, database).after("", 100)
        assert [(row.alias, row.blocked, row.revision) for row in rows] == [
            (f"new alias-{number}", True, 2) for number in range(9)
        ]
        assert (await verify(database, keyring)).broken == 0


async def test_an_edited_row_is_not_vouched_for_by_new_keys(instance: Instance) -> None:
    async with instance.opened() as (_, database), database.write() as connection:
        edit = update(virtual_keys).where(virtual_keys.c.id == "key-000003").values(max_budget=1)
        await connection.execute(edit)
    done = instance.run("rotate", "--data", "--grace", "0")
    assert done.returncode == 1
    assert "key-000003: row_mac does not hold" in done.stderr
    assert "1 rows were left as they are, 1 values under old keys" in done.stderr
    verified = instance.run("verify")
    assert verified.returncode == 1
    assert "key-000003: row_mac does not hold" in verified.stderr

    async with instance.opened() as (_, database), database.write() as connection:
        await connection.execute(delete(virtual_keys).where(virtual_keys.c.id == "key-000003"))
    done = instance.run("rotate", "--data", "--grace", "0")
    assert done.returncode == 0, done.stderr
    assert "going on with the rotation that was begun" in done.stdout
    assert "13 old keys are destroyed" in done.stdout


@pytest.mark.attack("CRY-03")
async def test_cry_03_a_value_from_before_the_rotation_does_not_open_when_it_is_put_back(instance: Instance) -> None:
    async with instance.opened() as (_, database), database.read() as connection:
        old = (await connection.execute(select(virtual_keys.c.id, virtual_keys.c.details))).all()
        user = (await connection.execute(select(end_users.c.id, end_users.c.details))).first()
    assert user is not None
    assert instance.run("rotate", "--data", "--grace", "0").returncode == 0
    async with instance.opened() as (keyring, database):
        async with database.write() as connection:
            for key_id, details in old:
                same = virtual_keys.c.id == key_id
                await connection.execute(update(virtual_keys).where(same).values(details=details))
            await connection.execute(update(end_users).where(end_users.c.id == user.id).values(details=user.details))
        found = await verify(database, keyring)
        assert {(one.table, one.what) for one in found.findings} == {
            ("virtual_keys", "row_mac"), ("end_users", "details"),
        }  # fmt: skip
        assert found.broken == len(old) + 1
        assert await repository(keyring, database).after("", 100) == []


async def test_old_keys_can_be_kept_for_older_backups_until_the_next_run(instance: Instance) -> None:
    done = instance.run("rotate", "--data", "--keep", "--grace", "0")
    assert done.returncode == 0, done.stderr
    assert "old keys are kept" in done.stdout
    kept = [key for key in (await contents_of(instance)).keys if key.state is KeyState.RETIRED]
    assert len(kept) == 15
    done = instance.run("rotate", "--data", "--grace", "0")
    assert "13 old keys are destroyed" in done.stdout
    left = [key.purpose for key in (await contents_of(instance)).keys if key.state is KeyState.RETIRED]
    assert left == ["journal", "session"]


async def test_the_journals_old_key_stays_as_long_as_a_segment_names_it(instance: Instance) -> None:
    class Later:
        """A clock that is eight days ahead."""

        def now(self) -> float:
            return CLOCK.now() + 8 * 86_400

        def monotonic(self) -> float:
            return CLOCK.monotonic()

    first = next(key.id for key in (await contents_of(instance)).keys if key.purpose == "journal")
    assert instance.run("rotate", "--data", "--grace", "0").returncode == 0
    async with instance.opened() as (keyring, database):
        keyring.clock = Later()
        held = {first}
        values = SealedValues(database, keyring)
        await Rotation(keyring, values, silent, held=held.__contains__, grace=0.0).run()
        assert first in {key.id for key in (await keyring.slots.read()).keys}
        held.clear()
        await Rotation(keyring, values, silent, held=held.__contains__, grace=0.0).run()
        assert first not in {key.id for key in (await keyring.slots.read()).keys}


@pytest.mark.attack("CRY-11")
async def test_cry_11_a_master_key_from_the_environment_is_staged_and_then_taken(
    instance: Instance, tmp_path: Path
) -> None:
    def given(path: Path) -> Mapping[str, str]:
        return {"OSTIARY_MASTER_KEY": path.read_text().strip()}

    first = tmp_path / "first"
    (instance.directory / "master.key").rename(first)
    refused = instance.run("rotate", "--master", environment=given(first))
    assert refused.returncode == 1
    assert "--new-key-file PATH" in refused.stderr

    abandoned, second = tmp_path / "abandoned", tmp_path / "second"
    for path in (abandoned, second):
        staged = instance.run("rotate", "--master", "--new-key-file", str(path), environment=given(first))
        assert staged.returncode == 0, staged.stderr
        assert path.stat().st_mode & 0o777 == 0o600
    refused = instance.run("status", environment=given(abandoned))
    assert refused.returncode == 1
    assert "does not open the keystore" in refused.stderr

    finished = instance.run("rotate", "--master", environment=given(second))
    assert finished.returncode == 0, finished.stderr
    assert instance.run("status", environment=given(first)).returncode == 1
    status = instance.run("status", "--json", environment=given(second))
    assert [slot["state"] for slot in msgspec.json.decode(status.stdout)["slots"]] == [SlotState.ACTIVE]
    assert instance.run("rotate", "--master", environment=given(second)).returncode == 1  # twice is refused


async def test_a_master_key_file_that_cannot_be_replaced_stays_in_force(instance: Instance, tmp_path: Path) -> None:
    before = load_master_key(instance.directory, {})
    (instance.directory / "master.key.next.draft").mkdir()  # as good as a directory that cannot be written to
    done = instance.run("rotate", "--master")
    assert done.returncode == 1
    assert "--new-key-file" in done.stderr
    assert load_master_key(instance.directory, {}).id == before.id
    assert (await instance.verified()).broken == 0


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """An empty database on a server of this module's own."""
    with hosted_postgres() as server:
        yield server.create_database("rotation")


async def test_on_postgresql_everything_is_sealed_again_events_of_the_audit_log_too(
    postgresql: str, tmp_path: Path
) -> None:
    instance = Instance(tmp_path / "data", postgresql)
    await filled(instance, keys=6, end_users=600, models=1)
    async with instance.opened() as (keyring, database):
        row: dict[str, Any] = {
            "org_id": "-", "seq": 1, "at": 1, "event": "e", "event_version": 1, "outcome": "ok", "actor": "a",
            "target_type": "t", "target": "x", "payload_commit": bytes(32), "salt": bytes(16), "leaf": bytes(32),
        }  # fmt: skip
        where = context(audit_events, row, "payload")
        row["payload"] = keyring.instance.seal(b"what happened", where)
        async with database.write() as connection:
            await connection.execute(insert(audit_events).values(row))
        old = key_id_of(row["payload"])
    done = instance.run("rotate", "--grace", "0")
    assert done.returncode == 0, done.stderr
    async with instance.opened() as (keyring, database):
        async with database.read() as connection:
            sealed = (await connection.execute(select(audit_events.c.payload))).scalar_one()
        assert key_id_of(sealed) != old
        assert keyring.instance.open(sealed, where) == b"what happened"
        found = await verify(database, keyring)
        assert found.broken == 0
        assert set(await SealedValues(database, keyring).count()) == {
            key.id for key in (await keyring.slots.read()).keys if key.purpose == "db"
        }
