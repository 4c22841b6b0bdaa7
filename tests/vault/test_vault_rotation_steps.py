"""The steps of a rotation, killed at any moment, on both engines: what was sealed opens, one master key is active."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ostiary.cli.clock import SystemClock
from ostiary.core.fault import Fault
from ostiary.store.keystore import DatabaseKeySlots
from ostiary.testing.postgres import PostgresServer, hosted_postgres
from ostiary.vault import hierarchy
from ostiary.vault.envelope import Context, SealBroken
from ostiary.vault.keyring import Keyring, open_keyring
from ostiary.vault.keystore import KEK, Contents, Edit, Holder, KeyState, SlotState
from ostiary.vault.master import MasterKey
from ostiary.vault.wrapper import LocalSeal

HERE = Context(table="t", column="c", row="r", revision=1)
CLOCK = SystemClock()
KILLS = 15
FIRST, SECOND = (LocalSeal(MasterKey(bytes([number]) * 32, "test")) for number in (1, 2))

# A process that turns everything over until it is killed. The master keys are those above.
TURNING = """
import asyncio, sys
from ostiary.cli.clock import SystemClock
from ostiary.store.keystore import DatabaseKeySlots
from ostiary.vault import hierarchy
from ostiary.vault.keyring import open_keyring
from ostiary.vault.master import MasterKey
from ostiary.vault.wrapper import LocalSeal

async def main():
    seals = [LocalSeal(MasterKey(bytes([number]) * 32, "test")) for number in (1, 2)]
    ring = await open_keyring(DatabaseKeySlots(sys.argv[1]), lambda: seals, SystemClock())
    print("ready", flush=True)
    while True:
        for seal in seals:
            await hierarchy.stage(ring, seal)
            await open_keyring(ring.slots, lambda: [seal], SystemClock())
            await hierarchy.complete(ring)
            for scope in ("org-1", "-"):
                await hierarchy.add_versions(ring, scope)
                await hierarchy.promote_versions(ring, scope)
            await hierarchy.renew_root(ring, seal)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of this module's own."""
    with hosted_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty keystore."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/keystore.db"
        return
    server: PostgresServer = request.getfixturevalue("server")
    name = f"keystore_{secrets.token_hex(6)}"
    yield server.create_database(name)
    server.drop_database(name)


@contextlib.asynccontextmanager
async def process(url: str, *seals: LocalSeal) -> AsyncIterator[Keyring]:
    slots = DatabaseKeySlots(url)
    try:
        yield await open_keyring(slots, lambda: seals or (FIRST,), CLOCK)
    finally:
        await slots.close()


@pytest.mark.slow
@pytest.mark.attack("CRY-08")
async def test_cry_08_killed_at_any_point_all_opens_and_one_master_key_is_active(url: str) -> None:
    chance = random.Random(8)
    async with process(url) as ring:
        sealed = (await ring.create("org-1")).seal(b"x", HERE)
        own = ring.instance.seal(b"y", HERE)
        generation = ring.generation
    for _ in range(KILLS):
        await asyncio.to_thread(killed, url, chance.uniform(0.0, 0.25))
        async with process(url, FIRST, SECOND) as ring:
            assert (await ring.organization("org-1")).open(sealed, HERE) == b"x"
            assert ring.instance.open(own, HERE) == b"y"
            contents = await ring.slots.read()
            states = [slot.state for slot in contents.slots]
            assert states.count(SlotState.ACTIVE) == 1
            assert states.count(SlotState.PREVIOUS) <= 1
            for scope in ("-", "org-1"):
                primary = [key.purpose for key in contents.of(scope) if key.state is KeyState.PRIMARY]
                assert len(primary) == len(set(primary))
                assert {KEK, "db", "row-mac", "blind-index"} <= set(primary)
    assert contents.generation > generation + KILLS  # it did get to work in between


def killed(url: str, seconds: float) -> None:
    """Let a process turn the keys over for a while."""
    with subprocess.Popen([sys.executable, "-c", TURNING, url], stdout=subprocess.PIPE, text=True) as turning:
        assert turning.stdout is not None
        assert turning.stdout.readline() == "ready\n"
        time.sleep(seconds)
        turning.send_signal(signal.SIGKILL)
    assert turning.returncode == -signal.SIGKILL


@pytest.mark.attack("CRY-02")
async def test_cry_02_a_value_says_which_version_it_is_of_and_opens_under_no_other(url: str) -> None:
    async with process(url) as ring:
        scope = await ring.create("org-1")
        old = scope.seal(b"x", HERE)
        await hierarchy.add_versions(ring, "org-1")
        await hierarchy.promote_versions(ring, "org-1")
        new = scope.seal(b"x", HERE)
        assert scope.open(old, HERE) == scope.open(new, HERE) == b"x"
        for head, rest in ((old, new), (new, old)):
            with pytest.raises(SealBroken):
                scope.open(head[:12] + rest[12:], HERE)


@pytest.mark.attack("CRY-11")
async def test_cry_11_an_abandoned_staging_is_purged_and_a_second_completion_changes_nothing(url: str) -> None:
    third = LocalSeal(MasterKey(os.urandom(32), "test"))
    async with process(url) as ring:
        await hierarchy.stage(ring, third)
        await hierarchy.stage(ring, SECOND)
        with pytest.raises(Fault, match="internal") as refused:
            async with process(url, third):
                pass
        assert SECOND.id in refused.value.public
        async with process(url, SECOND) as other:
            assert other.master == SECOND.id
            # changed again in the middle: the older previous one goes
            await hierarchy.stage(other, third)
        async with process(url, third) as other:
            slots = {slot.state: slot.wrapper for slot in (await other.slots.read([])).slots}
            assert slots == {SlotState.ACTIVE: third.id, SlotState.PREVIOUS: SECOND.id}
            assert await hierarchy.complete(other) == 1
            before = await other.slots.generation()
            assert await hierarchy.complete(other) == 0
            assert await other.slots.generation() == before
        for gone in (FIRST, SECOND):
            with pytest.raises(Fault, match="internal"):
                async with process(url, gone):
                    pass


async def test_a_master_key_staged_while_the_root_is_renewed_is_refused(url: str) -> None:
    class Slow(LocalSeal):
        async def wrap(self, root: bytes, context: object) -> bytes:
            wrapped = await super().wrap(root, context)  # type: ignore[arg-type]
            await hierarchy.renew_root(ring, FIRST)
            return wrapped

    async with process(url) as ring:
        with pytest.raises(Fault) as refused:
            await hierarchy.stage(ring, Slow(MasterKey(os.urandom(32), "test")))
        assert "stage the master key again" in refused.value.public
        assert len((await ring.slots.read([])).slots) == 1


async def test_of_two_changes_made_from_one_state_only_the_first_happens(url: str) -> None:
    async with process(url) as ring:
        contents: Contents = await ring.slots.read([])
        edit = Edit(drop_slots=("none",))
        assert await ring.slots.apply(edit, contents.generation)
        assert not await ring.slots.apply(edit, contents.generation)
        assert await ring.slots.generation() == contents.generation + 1


async def test_processes_say_what_they_have_loaded_and_when_they_end(url: str) -> None:
    async with process(url) as ring:
        await ring.slots.hold(Holder("one", 1, 10))
        await ring.slots.hold(Holder("two", 1, 10))
        await ring.slots.hold(Holder("one", 2, 20))
        await ring.slots.release("two")
        assert await ring.slots.holders() == [Holder("one", 2, 20)]
