"""The keyring while others change the keystore: what is read late is not loaded early, and nobody is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from ostiary.cli.clock import SystemClock
from ostiary.core.fault import Fault, Kind
from ostiary.store.keystore import DatabaseKeySlots
from ostiary.vault import hierarchy, keyring
from ostiary.vault.envelope import Context, SealBroken
from ostiary.vault.keyring import Keyring, open_keyring
from ostiary.vault.keystore import Contents
from ostiary.vault.master import MasterKey
from ostiary.vault.wrapper import LocalSeal

HERE = Context(table="t", column="c", row="r", revision=1)


class Slots(DatabaseKeySlots):
    """A keystore whose next answer waits at a gate."""

    gate: asyncio.Event | None = None
    waiting = asyncio.Event()

    async def read(self, scopes: Sequence[str] | None = None) -> Contents:
        contents = await super().read(scopes)
        gate, self.gate = self.gate, None
        if gate is not None:
            self.waiting.set()
            await gate.wait()
        return contents


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Keyring, Keyring, Slots]]:
    """Two processes with one keystore, and the slots of the second."""
    seals = [LocalSeal(MasterKey(os.urandom(32), "test"))]
    slots = [Slots(f"sqlite:///{tmp_path}/keystore.db") for _ in range(2)]
    for one in slots:
        one.waiting = asyncio.Event()
    first, second = [await open_keyring(one, lambda: seals, SystemClock()) for one in slots]
    yield first, second, slots[1]
    for one in slots:
        await one.close()


async def test_a_scope_first_used_during_a_refresh_keeps_its_keys(pair: tuple[Keyring, Keyring, Slots]) -> None:
    first, second, slots = pair
    sealed = (await first.create("org-1")).seal(b"x", HERE)
    slots.gate = gate = asyncio.Event()
    refreshing = asyncio.ensure_future(second.refresh())
    await slots.waiting.wait()
    opening = asyncio.ensure_future(second.organization("org-1"))
    await asyncio.sleep(0)
    gate.set()
    await refreshing
    scope = await opening
    assert scope.open(sealed, HERE) == b"x"
    assert await second.organization("org-1") is scope


async def test_many_tasks_that_ask_at_once_get_one_scope(pair: tuple[Keyring, Keyring, Slots]) -> None:
    first, second, _ = pair
    await first.create("org-1")
    scopes = await asyncio.gather(*(second.organization("org-1") for _ in range(20)))
    assert len({id(scope) for scope in scopes}) == 1


async def test_keys_that_changed_while_they_were_read_are_read_again(pair: tuple[Keyring, Keyring, Slots]) -> None:
    first, second, slots = pair
    ours = await first.create("org-1")
    await second.refresh()
    slots.gate = gate = asyncio.Event()
    opening = asyncio.ensure_future(second.organization("org-1"))
    await slots.waiting.wait()
    await hierarchy.add_versions(first, "org-1")
    await hierarchy.promote_versions(first, "org-1")
    gate.set()
    scope = await opening
    await second.refresh()
    assert scope.is_current(ours.seal(b"x", HERE))


async def test_a_scope_that_fell_out_of_memory_still_learns_of_new_and_of_destroyed_keys(
    pair: tuple[Keyring, Keyring, Slots], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, _ = pair
    monkeypatch.setattr(keyring, "MOST_SCOPES", 1)
    for name in ("org-1", "org-2"):
        await first.create(name)
    held = await second.organization("org-1")
    await second.organization("org-2")
    ours = await first.organization("org-1")
    await hierarchy.add_versions(first, "org-1")
    await hierarchy.promote_versions(first, "org-1")
    sealed = ours.seal(b"x", HERE)
    await second.refresh()
    assert held.open(sealed, HERE) == b"x"
    assert await second.organization("org-1") is held
    await hierarchy.destroy_scope(first, "org-1")
    await second.refresh()
    with pytest.raises(SealBroken):
        held.open(sealed, HERE)


async def test_one_organisations_damaged_keys_stop_no_other(pair: tuple[Keyring, Keyring, Slots]) -> None:
    first, second, slots = pair
    for name in ("org-1", "org-2"):
        await first.create(name)
    hurt, fine = await second.organization("org-1"), await second.organization("org-2")
    sealed = fine.seal(b"x", HERE)
    with contextlib.closing(sqlite3.connect(str(slots.file), isolation_level=None)) as connection:
        connection.execute("UPDATE keystore_keys SET wrapped = zeroblob(124) WHERE scope = 'org-1' AND purpose = 'db'")
        connection.execute("UPDATE keystore_state SET generation = generation + 1")
    await second.refresh()
    assert fine.open(sealed, HERE) == b"x"
    with pytest.raises(Fault, match="internal"):
        hurt.seal(b"x", HERE)
    with pytest.raises(SealBroken):
        await second.organization("org-1")


async def test_two_processes_that_change_at_once_both_succeed(pair: tuple[Keyring, Keyring, Slots]) -> None:
    first, second, _ = pair
    names = [f"org-{number}" for number in range(20)]
    both = await asyncio.gather(*(ring.create(name) for name in names for ring in (first, second)))
    for number in range(len(names)):
        one, other = both[2 * number], both[2 * number + 1]
        assert other.open(one.seal(b"x", HERE), HERE) == b"x"


async def test_destruction_says_so_while_a_reader_holds_the_log_and_is_finished_by_trying_again(
    pair: tuple[Keyring, Keyring, Slots], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ostiary.store.keystore._WIPE_SECONDS", 0.2)
    first, _, slots = pair
    await first.create("org-1")
    wrapped = [key.wrapped[12:] for key in (await first.slots.read(["org-1"])).of("org-1")]
    assert slots.file is not None
    reader = sqlite3.connect(slots.file, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM keystore_keys").fetchall()
    with pytest.raises(Fault) as refused:
        await hierarchy.destroy_scope(first, "org-1")
    assert refused.value.kind is Kind.UNAVAILABLE
    reader.execute("COMMIT")
    reader.close()
    await hierarchy.destroy_scope(first, "org-1")
    files = b"".join(path.read_bytes() for path in slots.file.parent.glob("keystore.db*"))
    assert not any(one in files for one in wrapped)
