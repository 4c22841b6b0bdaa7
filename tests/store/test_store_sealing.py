"""Rows of another process that knows newer keys, or whose organisation has none any more."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from access_kit import ORG, START, Access, MovedClock, key, opened_access

from ostiary.store.database import Database
from ostiary.store.keys import KeyFilter
from ostiary.store.keystore import DatabaseKeySlots
from ostiary.store.rows import ModelRow
from ostiary.vault.hierarchy import add_versions, destroy_scope, promote_versions
from ostiary.vault.keyring import Keyring, open_keyring
from ostiary.vault.master import MasterKey
from ostiary.vault.scope import INSTANCE
from ostiary.vault.wrapper import LocalSeal


@pytest.fixture
async def two(tmp_path: Path, clock: MovedClock) -> AsyncIterator[tuple[Keyring, Keyring]]:
    """The keyrings of two processes, over one keystore."""
    slots = DatabaseKeySlots(f"sqlite:///{tmp_path}/keys/keystore.db")
    seal = LocalSeal(MasterKey(secrets.token_bytes(32), "test"))
    first = await open_keyring(slots, lambda: [seal], clock)
    yield first, await open_keyring(slots, lambda: [seal], clock)
    await slots.close()


async def test_what_was_written_under_newer_keys_is_read_by_a_process_that_has_not_seen_them(
    database: Database, two: tuple[Keyring, Keyring], clock: MovedClock
) -> None:
    here, there = await opened_access(database, two[0], clock), Access(database, two[1], clock)
    await here.keys.add(key(1))
    assert await there.keys.find(key(1).digest) is not None  # its keys are in memory now
    for scope in (ORG, INSTANCE):
        await add_versions(two[0], scope)
        await promote_versions(two[0], scope)
    await here.keys.add(key(2, models=("m",)))
    await here.models.add(
        ModelRow(id="m", model_name="m", origin="o", litellm_params={"model": "m"}, model_info={}, created_at=START,
                 created_by="", updated_at=START, updated_by="")
    )  # fmt: skip
    user = await here.directory.user(ORG, "ann")
    found = await there.keys.find(key(2).digest)
    assert found is not None
    assert found.models == ("m",)
    assert await there.keys.find(key(1).digest) is not None
    assert (await there.keys.page(KeyFilter()))[1] == 2
    assert [row.id for row in await there.models.all()] == ["m"]
    assert await there.directory.user_names([user]) == {user: "ann"}
    assert (here.told, there.told, here.broken, there.broken) == ([], [], [], [])


async def test_models_alone_are_opened_with_fresh_keys(
    database: Database, two: tuple[Keyring, Keyring], clock: MovedClock
) -> None:
    here, there = await opened_access(database, two[0], clock), Access(database, two[1], clock)
    await add_versions(two[0], INSTANCE)
    await promote_versions(two[0], INSTANCE)
    user = await here.directory.user(ORG, "ann")
    assert await there.directory.user_names([user]) == {user: "ann"}  # nothing was checked before: only opened
    assert there.broken == []


async def test_keys_of_a_destroyed_organisation_are_none_without_an_alarm(
    database: Database, two: tuple[Keyring, Keyring], clock: MovedClock
) -> None:
    here, there = await opened_access(database, two[0], clock), Access(database, two[1], clock)
    org = await here.directory.organization("gone")
    await here.keys.add(key(1, organization_id=org))
    await here.keys.add(key(2))
    await destroy_scope(two[0], org)
    for access in (here, there):
        assert await access.keys.find(key(1).digest) is None
        assert [row.id for row in (await access.keys.page(KeyFilter()))[0]] == [key(2).id]
        assert await access.directory.find_teams("red") == []
        assert access.told == []
    assert there.broken == []
