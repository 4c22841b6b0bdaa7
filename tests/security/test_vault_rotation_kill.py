"""Rotation under SIGKILL: whatever the moment, everything opens at the next start, and the next run goes on."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from vault_kit import Instance, filled, nursery

from ostiary.store.rewrap import SealedValues
from ostiary.store.verify import verify
from ostiary.vault.keystore import KEK, KeyState, SlotState
from ostiary.vault.rotation import LINGERING

KILLS = 50
COMMANDS = (("rotate", "--grace", "0"), ("rotate", "--data", "--grace", "0"), ("rotate", "--master"))


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    """A place for an instance."""
    return Instance(tmp_path / "data")


async def readable(instance: Instance, values: int) -> None:
    """A start finds the keystore in order, and everything opens."""
    async with instance.opened() as (keyring, database):
        states = [slot.state for slot in (await keyring.slots.read(["-"])).slots]
        found = await verify(database, keyring)
    assert states.count(SlotState.ACTIVE) == 1
    assert states.count(SlotState.PREVIOUS) <= 1
    assert (found.broken, found.findings, found.values) == (0, [], values)


def run_whole(instance: Instance, words: Sequence[str]) -> float:
    """Run a command to its end; the seconds that took."""
    began = time.monotonic()
    done = instance.run(*words)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - began


@pytest.mark.attack("CRY-08")
@pytest.mark.slow
async def test_cry_08_killed_at_fifty_moments_everything_opens_each_time(instance: Instance) -> None:
    await filled(instance, keys=12, end_users=60, models=2)
    values = (await instance.verified()).values
    chance = random.Random(8)
    longest = {words: run_whole(instance, words) for words in COMMANDS}
    killed = 0
    while killed < KILLS:
        words = COMMANDS[killed % len(COMMANDS)]
        process = nursery().begin(instance.environment, "vault", *words)
        time.sleep(chance.uniform(0.0, longest[words]))  # the random moment itself
        nursery().kill(process)
        code = nursery().end()
        assert code in (0, -9), nursery().said()
        killed += code == -9
        await readable(instance, values)

    for _ in range(2):  # one goes on, one is new
        run_whole(instance, COMMANDS[0])
    await readable(instance, values)
    async with instance.opened() as (keyring, database):
        contents = await keyring.slots.read()
        counted = await SealedValues(database, keyring).count()
    assert [slot.state for slot in contents.slots] == [SlotState.ACTIVE]
    assert not (instance.directory / "master.key.next").exists()
    old = [key for key in contents.keys if key.state is not KeyState.PRIMARY and key.purpose not in LINGERING]
    assert old == []
    in_force = {key.id for key in contents.keys if key.purpose == "db"}
    assert set(counted) == in_force
    assert sum(counted.values()) == values
    assert len([key for key in contents.keys if key.purpose == KEK]) == 4
