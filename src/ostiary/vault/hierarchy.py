"""The steps of a rotation, each one transaction of the keystore. It must not touch what is sealed under the keys.

Killed between two steps, or within one, whoever goes on finds a state from which every step can be taken again.
"""

from __future__ import annotations

import os

import msgspec

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.vault.envelope import KEY_ID_LENGTH, KEY_LENGTH
from ostiary.vault.keyring import Keyring
from ostiary.vault.keystore import KEK, Contents, Edit, KeyState, Slot, SlotState, Tombstone, WrappedKey
from ostiary.vault.purpose import KEPT, Purpose
from ostiary.vault.root import Root, slot_context
from ostiary.vault.scope import INSTANCE
from ostiary.vault.wrapper import RootSeal


async def stage(keyring: Keyring, wrapper: RootSeal) -> Slot:
    """Let another master key open the keystore from its next start on, which makes it the active one."""
    slot_id = os.urandom(KEY_ID_LENGTH).hex()
    root = keyring.root
    wrapped = await wrapper.wrap(root.secret, slot_context(keyring.instance_id, keyring.region, slot_id))
    slot = Slot(slot_id, SlotState.STAGED, wrapper.kind, wrapper.id, wrapped, keyring.now())

    def staged(contents: Contents) -> Edit:
        if keyring.root.id != root.id:  # what was wrapped opens nothing any more
            public = "the root key was renewed by somebody else at the same time: stage the master key again"
            raise Fault(Kind.UNAVAILABLE, public, origin=Origin.GATEWAY, retry_after=1.0)
        before = tuple(one.id for one in contents.slots if one.state is SlotState.STAGED)
        return Edit(put_slots=(slot,), drop_slots=before)

    await keyring.change(staged, [INSTANCE])
    return slot


async def complete(keyring: Keyring) -> int:
    """Drop the slot of the master key before, and staged ones: how many there were."""

    def without(contents: Contents) -> Edit | None:
        gone = tuple(slot.id for slot in contents.slots if slot.state is not SlotState.ACTIVE)
        return Edit(drop_slots=gone) if gone else None

    before = await keyring.change(without, [INSTANCE])
    await keyring.slots.forget()
    return sum(slot.state is not SlotState.ACTIVE for slot in before.slots)


async def renew_root(keyring: Keyring, wrapper: RootSeal) -> None:
    """A new root key, wrapped by this master key alone; every key-encryption key is wrapped anew.

    Afterwards neither another master key nor the old root opens anything of this keystore.
    """
    secret, slot_id = os.urandom(KEY_LENGTH), os.urandom(KEY_ID_LENGTH).hex()
    wrapped = await wrapper.wrap(secret, slot_context(keyring.instance_id, keyring.region, slot_id))
    slot = Slot(slot_id, SlotState.ACTIVE, wrapper.kind, wrapper.id, wrapped, keyring.now())
    keyring.announce(wrapper)

    def renewed(contents: Contents) -> Edit:
        old = keyring.root
        new = Root.new(secret, old.instance, old.region, old.stamp.created_at, slot)
        keks = tuple(new.rewrapped(key, old.unwrapped(key)) for key in contents.keys if key.purpose == KEK)
        return Edit(stamp=new.stamp, put_slots=(slot,), drop_slots=_ids(contents.slots), put_keys=keks)

    await keyring.change(renewed)
    await keyring.slots.forget()


async def add_versions(keyring: Keyring, scope: str) -> None:
    """New keys for a scope, which open but do not seal yet; nothing where there are such already."""

    def added(contents: Contents) -> Edit | None:
        keys = contents.of(scope)
        if not keys:
            raise _unknown(scope)
        if any(key.state is KeyState.DECRYPT_ONLY for key in keys):
            return None
        version = max(key.version for key in keys) + 1
        purposes = [Purpose(name) for name in {key.purpose for key in keys} - {KEK, *KEPT}]
        fresh = keyring.root.fresh(scope, sorted(purposes), version, KeyState.DECRYPT_ONLY, keyring.now())
        return Edit(put_keys=fresh)

    await keyring.change(added, [INSTANCE, scope])


async def promote_versions(keyring: Keyring, scope: str) -> None:
    """Seal under the new keys from here on. Keys that stay what they are move under the new key-encryption key."""

    def promoted(contents: Contents) -> Edit | None:
        keys = contents.of(scope)
        new = {key.purpose: key for key in keys if key.state is KeyState.DECRYPT_ONLY}
        if not new:
            return None
        kek, root = new[KEK], keyring.root
        bare = root.unwrapped(kek)
        keks = root.keks(keys)
        put: list[WrappedKey] = [msgspec.structs.replace(key, state=KeyState.PRIMARY) for key in new.values()]
        for key in keys:
            if key.purpose in new:
                if key.state is KeyState.PRIMARY:
                    put.append(msgspec.structs.replace(key, state=KeyState.RETIRED))
            elif key.parent != kek.id:
                put.append(root.moved(key, root.bare(key, keks), kek, bare))
        return Edit(put_keys=tuple(put))

    await keyring.change(promoted, [INSTANCE, scope])


async def destroy_retired(keyring: Keyring, scope: str) -> tuple[bytes, ...]:
    """Destroy the retired keys of a scope, and key-encryption keys that wrap nothing any more; their ids.

    Only after nothing is sealed under them: whoever calls this has looked.
    """

    def destroyed(contents: Contents) -> Edit | None:
        gone = _destroyable(contents.of(scope))
        return Edit(drop_keys=gone) if gone else None

    before = await keyring.change(destroyed, [INSTANCE, scope])
    await keyring.slots.forget()
    return _destroyable(before.of(scope))


async def destroy_scope(keyring: Keyring, scope: str) -> Tombstone:
    """Destroy all keys of an organisation: what is sealed under them opens nowhere any more.

    Raises:
        Fault: INVALID_REQUEST for the instance itself, or an organisation without keys.
    """
    if scope == INSTANCE:
        raise Fault(Kind.INVALID_REQUEST, "the instance's own keys are not destroyed", origin=Origin.GATEWAY)
    now = keyring.now()

    def shredded(contents: Contents) -> Edit | None:
        if any(dead.scope == scope for dead in contents.tombstones):
            return None
        ids = tuple(key.id for key in contents.of(scope))
        if not ids:
            raise _unknown(scope)
        return Edit(drop_keys=ids, tombstones=(Tombstone(scope, now, ids),))

    await keyring.change(shredded, [INSTANCE, scope])
    await keyring.slots.forget()
    contents = await keyring.slots.read([INSTANCE])
    return next(dead for dead in contents.tombstones if dead.scope == scope)


def _destroyable(keys: tuple[WrappedKey, ...]) -> tuple[bytes, ...]:
    retired = {key.id for key in keys if key.state is KeyState.RETIRED and key.purpose != KEK}
    parents = {key.parent for key in keys if key.id not in retired and key.purpose != KEK}
    empty = {key.id for key in keys if key.purpose == KEK and key.state is KeyState.RETIRED and key.id not in parents}
    return tuple(retired | empty)


def _ids(slots: tuple[Slot, ...]) -> tuple[str, ...]:
    return tuple(slot.id for slot in slots)


def _unknown(scope: str) -> Fault:
    return Fault(Kind.INVALID_REQUEST, f"organisation {scope} has no keys on this instance", origin=Origin.GATEWAY)
