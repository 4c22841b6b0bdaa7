"""The key hierarchy: what opens what, through rotation, renewal and destruction, in two processes at once."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ostiary.cli.clock import SystemClock
from ostiary.core.fault import Fault, Kind
from ostiary.store.keystore import DatabaseKeySlots
from ostiary.vault import hierarchy
from ostiary.vault.envelope import Context, SealBroken, UnknownKey
from ostiary.vault.keyring import Keyring, open_keyring
from ostiary.vault.keystore import KEK, SlotState
from ostiary.vault.master import MasterKey
from ostiary.vault.purpose import KEPT, Purpose, Wrap
from ostiary.vault.scope import INSTANCE, Loaded, Scope
from ostiary.vault.wrapper import LocalSeal

HERE = Context(table="t", column="c", row="r", revision=1)
CLOCK = SystemClock()


class Desk:
    """A keystore in a file, and the processes that use it. `wrappers` is what a process finds when it looks."""

    def __init__(self, path: Path) -> None:
        self.file = path / "keystore.db"
        self.wrappers = [wrapper()]
        self.slots: list[DatabaseKeySlots] = []

    async def process(self, *, region: str | None = None) -> Keyring:
        slots = DatabaseKeySlots(f"sqlite:///{self.file}")
        self.slots.append(slots)
        return await open_keyring(slots, lambda: self.wrappers, CLOCK, region=region)

    def bytes(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.file.parent.glob("keystore.db*"))


def wrapper() -> LocalSeal:
    return LocalSeal(MasterKey(os.urandom(32), "test"))


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    for slots in desk.slots:
        await slots.close()


async def test_the_keys_of_a_new_instance_are_found_again_at_the_next_start(desk: Desk) -> None:
    first = await desk.process(region="eu")
    sealed = first.instance.seal(b"x", HERE)
    second = await desk.process()
    assert (second.instance_id, second.region) == (first.instance_id, "eu")
    assert second.instance.open(sealed, HERE) == b"x"
    assert second.key(Purpose.APIKEY_PEPPER) == first.key(Purpose.APIKEY_PEPPER)
    assert first.instance_id in repr(first)


async def test_two_processes_that_start_at_once_agree(desk: Desk) -> None:
    slots = [DatabaseKeySlots(f"sqlite:///{desk.file}") for _ in range(2)]
    desk.slots += slots
    for one in slots:
        await one.prepare()
    rings = [await open_keyring(one, lambda: desk.wrappers, CLOCK) for one in slots]
    assert rings[0].instance_id == rings[1].instance_id


@pytest.mark.attack("CRY-07")
async def test_cry_07_another_master_key_or_region_is_refused_and_told_which_is_expected(desk: Desk) -> None:
    await desk.process(region="eu")
    expected, before = desk.wrappers[0].id, desk.bytes()
    desk.wrappers = [wrapper()]
    with pytest.raises(Fault) as refused:
        await desk.process()
    assert refused.value.kind is Kind.INTERNAL
    assert expected in refused.value.public
    assert desk.wrappers[0].id in refused.value.public
    with pytest.raises(Fault, match="internal") as refused:
        await desk.process(region="us")
    assert "region eu" in refused.value.public
    assert desk.bytes()[:100] == before[:100]


@pytest.mark.attack("CRY-02")
async def test_cry_02_what_one_organisation_sealed_another_cannot_open(desk: Desk) -> None:
    ring = await desk.process()
    one, two = await ring.create("org-1"), await ring.create("org-2")
    sealed = one.seal(b"x", HERE)
    for other in (two, ring.instance):
        with pytest.raises(SealBroken):
            other.open(sealed, HERE)
    assert not two.verifies(b"m", one.mac(b"m"))


@pytest.mark.attack("CRY-14")
async def test_cry_14_equal_texts_have_unequal_indexes_in_other_organisations_tables_and_columns(desk: Desk) -> None:
    ring = await desk.process()
    one, two = await ring.create("org-1"), await ring.create("org-2")
    text = "ann@example.com"
    assert one.index("users", "email", text) == one.index("users", "email", text)
    indexes = [
        one.index("users", "email", text), two.index("users", "email", text),
        ring.instance.index("users", "email", text),
        one.index("users", "name", text), one.index("teams", "email", text), one.index("usersemail", "", text),
    ]  # fmt: skip
    assert len(set(indexes)) == len(indexes)
    assert {len(index) for index in indexes} == {16}


@pytest.mark.attack("CRY-19")
def test_cry_19_every_purpose_is_a_string_of_its_own() -> None:
    names = [*Purpose, *Wrap, KEK]
    assert len(set(names)) == len(names)


async def test_an_organisations_keys_are_made_once(desk: Desk) -> None:
    first, second = await desk.process(), await desk.process()
    sealed = (await first.create("org-1")).seal(b"x", HERE)
    assert (await second.create("org-1")).open(sealed, HERE) == b"x"
    with pytest.raises(Fault, match="internal"):
        await second.organization("org-2")


@pytest.mark.attack("CRY-09")
async def test_cry_09_data_keys_turn_over_while_another_process_reads_and_writes(desk: Desk) -> None:
    ring, other = await desk.process(), await desk.process()
    ours, theirs = await ring.create("org-1"), await other.organization("org-1")
    old, index, mac = ours.seal(b"old", HERE), ours.index("t", "c", "x"), ours.mac(b"m")

    await hierarchy.add_versions(ring, "org-1")
    await hierarchy.add_versions(ring, "org-1")  # again, as after a kill: nothing more
    assert ours.is_current(old)
    await other.refresh()
    await hierarchy.promote_versions(ring, "org-1")
    new = ours.seal(b"new", HERE)
    assert not ours.is_current(old)
    assert theirs.open(new, HERE) == b"new"  # it had loaded them before they were used
    assert ours.open(theirs.seal(b"late", HERE), HERE) == b"late"

    await other.refresh()
    for scope in (ours, theirs):
        assert scope.open(old, HERE) == b"old"
        assert scope.verifies(b"m", mac)
        assert scope.mac(b"m") != mac
        assert scope.index("t", "c", "x") == index  # indexes stay
    assert await hierarchy.destroy_retired(ring, "org-1")
    assert await hierarchy.destroy_retired(ring, "org-1") == ()
    with pytest.raises(UnknownKey):
        ours.open(old, HERE)
    assert not ours.verifies(b"m", mac)
    assert (await (await desk.process()).organization("org-1")).open(new, HERE) == b"new"


async def test_keys_that_digests_rest_on_are_kept_when_the_others_turn_over(desk: Desk) -> None:
    ring = await desk.process()
    before = {purpose: ring.key(purpose) for purpose in Purpose}
    await hierarchy.add_versions(ring, INSTANCE)
    await hierarchy.promote_versions(ring, INSTANCE)
    await hierarchy.destroy_retired(ring, INSTANCE)
    kept = {purpose for purpose in Purpose if ring.key(purpose) == before[purpose]}
    assert kept == set(KEPT)
    assert {purpose for purpose in Purpose if (await desk.process()).key(purpose) == before[purpose]} == set(KEPT)


async def test_a_staged_master_key_is_inert_until_a_start_with_it(desk: Desk) -> None:
    ring, first, second = await desk.process(), desk.wrappers[0], wrapper()
    await hierarchy.stage(ring, wrapper())  # abandoned
    await hierarchy.stage(ring, second)
    assert (await desk.process()).master == first.id
    desk.wrappers = [second]
    promoted = await desk.process()
    assert promoted.master == second.id
    states = [slot.state for slot in (await promoted.slots.read([])).slots]
    assert sorted(states) == [SlotState.ACTIVE, SlotState.PREVIOUS]
    assert await hierarchy.complete(promoted) == 1
    assert await hierarchy.complete(promoted) == 0
    desk.wrappers = [first]
    with pytest.raises(Fault, match="internal"):
        await desk.process()


async def test_after_the_root_is_renewed_the_old_master_key_opens_nothing(desk: Desk) -> None:
    ring, other, old, new = await desk.process(), await desk.process(), desk.wrappers[0], wrapper()
    sealed = (await ring.create("org-1")).seal(b"x", HERE)
    theirs, old_root = await other.organization("org-1"), ring.root
    await hierarchy.renew_root(ring, new)
    desk.wrappers = [new]
    await other.refresh()
    assert theirs.open(sealed, HERE) == b"x"
    contents = await ring.slots.read()
    with pytest.raises(SealBroken):
        old_root.opened(contents.of("org-1"))
    desk.wrappers = [old]
    with pytest.raises(Fault, match="internal"):
        await desk.process()


@pytest.mark.attack("CRY-13")
async def test_cry_13_destroyed_keys_leave_no_byte_and_open_nothing(desk: Desk) -> None:
    ring, other = await desk.process(), await desk.process()
    scope, neighbour = await ring.create("org-1"), await ring.create("org-2")
    theirs = await other.organization("org-1")
    sealed, fine = scope.seal(b"x", HERE), neighbour.seal(b"y", HERE)
    wrapped = [key.wrapped for key in (await ring.slots.read(["org-1"])).keys]
    assert all(one in desk.bytes() for one in wrapped)

    dead = await hierarchy.destroy_scope(ring, "org-1")
    assert len(dead.keys) == len(wrapped)
    assert not any(one[12:] in desk.bytes() for one in wrapped)
    await other.refresh()
    for one in (scope, theirs):
        with pytest.raises(SealBroken):
            one.open(sealed, HERE)
        with pytest.raises(Fault, match="internal"):
            one.seal(b"x", HERE)
    with pytest.raises(Fault, match="internal"):
        await ring.create("org-1")
    assert neighbour.open(fine, HERE) == b"y"
    assert await hierarchy.destroy_scope(ring, "org-1") == dead
    with pytest.raises(Fault, match="invalid_request"):
        await hierarchy.destroy_scope(ring, INSTANCE)


@pytest.mark.parametrize(
    "edit",
    ["UPDATE keystore_state SET region = 'us'", "UPDATE keystore_state SET instance = 'other'"],
)
async def test_an_edited_stamp_is_refused(desk: Desk, edit: str) -> None:
    await desk.process(region="eu")
    for slots in desk.slots:
        await slots.close()
    with sqlite3.connect(desk.file) as connection:
        connection.execute(edit)
    with pytest.raises(Fault, match="internal"):
        await desk.process()


async def test_a_key_put_in_the_place_of_another_is_refused(desk: Desk) -> None:
    ring = await desk.process()
    await ring.create("org-1")
    await ring.create("org-2")
    with sqlite3.connect(desk.file) as connection:
        connection.execute("UPDATE keystore_keys SET scope = 'org-3' WHERE scope = 'org-2'")
    fresh = await desk.process()
    with pytest.raises(SealBroken):
        await fresh.organization("org-3")


def test_nothing_shows_a_key() -> None:
    key = bytes(range(32))
    scope = Scope("o", "i", "eu", {Purpose.DB: [Loaded(b"keyid-01", 1, key, primary=True)]})
    for shown in (repr(scope), repr(Loaded(b"keyid-01", 1, key, primary=True))):
        assert key.hex() not in shown
        assert repr(key)[2:20] not in shown
