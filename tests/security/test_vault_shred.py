"""The destruction of an organisation's keys: never by a slip, not before its time, and then in no byte any more."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select, update
from vault_kit import CLOCK, Instance, content_of, filled

from ostiary.core.fault import Fault
from ostiary.store.directory import Directory
from ostiary.store.instance import default_organization
from ostiary.store.keys import KeyRepository
from ostiary.store.names import Names
from ostiary.store.schema.people import organizations
from ostiary.store.shredding import OrganizationStates
from ostiary.store.verify import verify
from ostiary.vault.certificate import CertificateBroken, certified, certify
from ostiary.vault.hierarchy import destroy_scope
from ostiary.vault.keyring import Keyring
from ostiary.vault.keystore import WrappedKey
from ostiary.vault.shred import Organization, Shredding

AT_ONCE = {"OSTIARY_SHRED_DELAY_DAYS": "0"}


@pytest.fixture
async def instance(tmp_path: Path) -> Instance:
    """An instance with three organisations: the default one, `acme` and `globex`."""
    made = Instance(tmp_path / "data")
    await filled(made, keys=9, end_users=30, models=1)
    return made


async def organization(instance: Instance, name: str) -> Organization:
    """An organisation as the database has it."""
    async with instance.opened() as (keyring, database):
        found = await OrganizationStates(database, keyring, CLOCK).find(name)
    assert found is not None
    return found


async def keys_of(instance: Instance, org_id: str) -> list[WrappedKey]:
    """The organisation's keys in the keystore."""
    async with instance.keyring() as keyring:
        return list((await keyring.slots.read([org_id])).keys)


def files_of(instance: Instance) -> Mapping[str, bytes]:
    """The keystore's files, every byte."""
    return {path.name: content_of(path) for path in instance.directory.glob("keystore.db*")}


@pytest.mark.attack("CRY-13")
async def test_cry_13_it_takes_the_name_and_seven_days_and_can_be_undone(instance: Instance) -> None:
    acme = await organization(instance, "acme")
    for words in ([], ["--confirm", "globex"], ["--confirm", ""], ["--confirm", acme.id]):
        refused = instance.run("shred", "acme", *words)
        assert refused.returncode == 1
    assert (await organization(instance, "acme")).state == "active"

    asked = instance.run("shred", acme.id, "--confirm", "acme")
    assert asked.returncode == 0, asked.stderr
    assert f"organisation {acme.id} is refused from now on" in asked.stdout
    assert instance.run("shred", "--due").returncode == 0
    assert (await organization(instance, "acme")).state == "shredding"
    assert len(await keys_of(instance, acme.id)) == 4
    assert (await instance.verified()).broken == 0  # its state is under the MAC, its details open in the new revision

    undone = instance.run("shred", "acme", "--undo")
    assert undone.returncode == 0, undone.stderr
    assert (await organization(instance, "acme")).state == "active"
    assert instance.run("shred", "acme", "--undo").returncode == 1
    assert (await instance.verified()).broken == 0


@pytest.mark.attack("CRY-13")
async def test_cry_13_afterwards_no_byte_of_its_keys_is_left_and_the_others_are_fine(instance: Instance) -> None:
    acme, globex = await organization(instance, "acme"), await organization(instance, "globex")
    before = await keys_of(instance, acme.id)
    assert all(any(key.wrapped in content for content in files_of(instance).values()) for key in before)
    async with instance.opened() as (replica, database):
        await replica.organization(acme.id)
        scope = await replica.organization(acme.id)
        everything = await verify(database, replica)

        done = instance.run("shred", "acme", "--confirm", "acme", environment=AT_ONCE)
        assert done.returncode == 0, done.stderr
        for name, content in files_of(instance).items():
            for key in before:
                assert key.wrapped not in content, name
                assert key.wrapped[12:44] not in content, name  # nor its salt

        await replica.refresh()  # as every running process does each second
        with pytest.raises(Fault, match="internal"):
            scope.index("t", "c", "x")
        with pytest.raises(Fault, match="internal"):
            await replica.organization(acme.id)
        assert await Names(database, replica, CLOCK).find(acme.id, "end_user", ["end-user-1"]) == {}
        rows = await repository(replica, database).after("", 100)
        assert {row.organization_id for row in rows} == {default_organization(replica.instance_id), globex.id}
        with pytest.raises(Fault, match="internal"):  # its id is not used again
            await replica.create(acme.id)

        found = await verify(database, replica)
    assert (found.broken, found.tables["organizations"].destroyed) == (0, 1)
    assert found.tables["end_users"].values == {"details": 20}
    assert found.values < everything.values
    assert (await organization(instance, acme.id)).state == "shredded"
    assert instance.run("shred", acme.id, "--undo").returncode == 1
    assert instance.run("rotate", "--data", "--grace", "0").returncode == 0
    assert (await instance.verified()).broken == 0


def repository(keyring: Keyring, database: object) -> KeyRepository:
    """Virtual keys."""
    book = Directory(database, keyring, CLOCK, default_organization(keyring.instance_id))  # type: ignore[arg-type]
    return KeyRepository(database, keyring, CLOCK, book)  # type: ignore[arg-type]


@pytest.mark.attack("CRY-13")
async def test_cry_13_the_certificate_names_the_keys_and_cannot_be_edited(instance: Instance) -> None:
    acme = await organization(instance, "acme")
    before = await keys_of(instance, acme.id)
    assert instance.run("shred", "acme", "--confirm", "acme", environment=AT_ONCE).returncode == 0
    path = instance.directory / "certificates" / f"shred-{acme.id}.json"
    checked = instance.run("shred", "--check", str(path))
    assert checked.returncode == 0, checked.stderr
    assert f"4 keys of {acme.id}" in checked.stdout

    async with instance.keyring() as keyring:
        said = certified(keyring, path.read_bytes())
        assert said.instance == keyring.instance_id
        assert set(said.keys) == {key.id.hex() for key in before}
        for old, new in ((acme.id, "x" * 36), ('"region":"local"', '"region":"other"'), (said.keys[0], "0" * 16)):
            with pytest.raises(CertificateBroken):
                certified(keyring, path.read_bytes().replace(old.encode(), new.encode()))
        with pytest.raises(CertificateBroken):
            certified(keyring, b"{}")
        path.write_bytes(path.read_bytes().replace(acme.id.encode(), b"x" * 36))
    assert instance.run("shred", "--check", str(path)).returncode == 1


async def test_the_certificate_of_another_instance_does_not_hold(instance: Instance, tmp_path: Path) -> None:
    other = Instance(tmp_path / "other")
    await filled(other, keys=1, end_users=1, models=1)
    async with other.keyring() as keyring:
        dead = await destroy_scope(keyring, (await organization(other, "acme")).id)
        certificate = certify(keyring, dead)
        assert certify(keyring, dead) == certificate
    async with instance.keyring() as keyring:
        with pytest.raises(CertificateBroken):
            certified(keyring, certificate)


async def test_killed_between_the_keys_and_the_row_the_next_run_goes_on(instance: Instance) -> None:
    acme = await organization(instance, "acme")
    assert instance.run("shred", "acme", "--confirm", "acme").returncode == 0
    async with instance.keyring() as keyring:
        await destroy_scope(keyring, acme.id)
    assert (await organization(instance, acme.id)).state == "shredding"
    assert instance.run("shred", "--due", environment=AT_ONCE).returncode == 0
    assert (await organization(instance, acme.id)).state == "shredded"
    assert (instance.directory / "certificates" / f"shred-{acme.id}.json").exists()


async def test_the_instance_and_the_default_organisation_cannot_be_destroyed(instance: Instance) -> None:
    async with instance.keyring() as keyring:
        default = default_organization(keyring.instance_id)
    for name in ("-", default, "nobody"):
        refused = instance.run("shred", name, "--confirm", name, environment=AT_ONCE)
        assert refused.returncode == 1
        assert refused.stderr.startswith("ostiary: ")
    assert (await instance.verified()).broken == 0


async def test_a_state_that_was_edited_in_the_database_destroys_nothing(instance: Instance) -> None:
    acme = await organization(instance, "acme")
    async with instance.opened() as (keyring, database):
        async with database.write() as connection:
            await connection.execute(
                update(organizations).where(organizations.c.id == acme.id).values(state="shredding", updated_at=1)
            )
        states = OrganizationStates(database, keyring, CLOCK)
        assert await Shredding(keyring, states, "none", 0).due(lambda _line: None) == []
        async with database.read() as connection:
            assert (await connection.execute(select(organizations.c.id))).all()
    assert len(await keys_of(instance, acme.id)) == 4


@pytest.mark.parametrize("days", ["", "soon", "-1", "nan", "366"])
async def test_a_delay_that_is_no_number_of_days_is_refused(instance: Instance, days: str) -> None:
    done = instance.run("shred", "acme", "--confirm", "acme", environment={"OSTIARY_SHRED_DELAY_DAYS": days})
    assert done.returncode == 1
    assert "OSTIARY_SHRED_DELAY_DAYS must be a number of days" in done.stderr


async def test_on_a_terminal_the_name_is_typed(instance: Instance) -> None:
    for typed, code in ((b"globex\n", 1), (b"acme\n", 0)):
        outer, inner = pty.openpty()
        try:
            os.write(outer, typed)
            done = subprocess.run(
                [sys.executable, "-m", "ostiary.cli.main", "vault", "shred", "acme"],
                stdin=inner, env=instance.environment, capture_output=True, text=True, check=False, timeout=60,
            )  # fmt: skip
        finally:
            os.close(inner)
            os.close(outer)
        assert done.returncode == code, done.stderr
        assert "Type its name: " in done.stdout
    assert (await organization(instance, "acme")).state == "shredding"
    status = msgspec.json.decode(instance.run("status", "--json").stdout)
    assert status["destroyed"] == []
