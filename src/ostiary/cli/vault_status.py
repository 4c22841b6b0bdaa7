"""What `ostiary vault status` tells of an instance's keys. It must not show a key."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import msgspec

from ostiary.vault.certificate import public_key
from ostiary.vault.keyring import Keyring
from ostiary.vault.keystore import KeyState, SlotState, WrappedKey
from ostiary.vault.purpose import Purpose
from ostiary.vault.rotation import ALIVE_SECONDS, by_scope, unfinished
from ostiary.vault.scope import INSTANCE
from ostiary.vault.wrapper import RootSeal


class KeyShown(msgspec.Struct, frozen=True, omit_defaults=True):
    """One key. `values` are those sealed under it, where they were counted."""

    purpose: str
    version: int
    state: str
    id: str
    created_at: int
    values: int | None = None


class SlotShown(msgspec.Struct, frozen=True):
    """A master key that opens the keystore."""

    id: str
    state: str
    kind: str
    master: str
    created_at: int


class HolderShown(msgspec.Struct, frozen=True):
    """A running process, and whether it has the keys as they are now."""

    id: str
    current: bool
    seen_at: int


class DestroyedShown(msgspec.Struct, frozen=True):
    """An organisation whose keys are gone."""

    organization: str
    at: int


class Status(msgspec.Struct, frozen=True):
    """The keys of an instance. Times are Unix milliseconds; `source` is where the master key was read from."""

    instance: str
    region: str
    master: str
    kind: str
    source: str
    public_key: str
    rotating: bool
    slots: list[SlotShown]
    holders: list[HolderShown]
    scopes: dict[str, list[KeyShown]]
    destroyed: list[DestroyedShown]


async def status_of(keyring: Keyring, seal: RootSeal, counted: Mapping[bytes, int] | None) -> Status:
    """The keys as the keystore has them.

    Args:
        seal: what holds the master key.
        counted: sealed values by key, None where they were not counted.

    Raises:
        Fault: UNAVAILABLE.
    """
    contents = await keyring.slots.read()
    since = keyring.now() - ALIVE_SECONDS * 1000
    holders = [one for one in await keyring.slots.holders() if one.seen_at > since]
    return Status(
        instance=keyring.instance_id,
        region=keyring.region,
        master=keyring.master,
        kind=seal.kind,
        source=getattr(seal, "source", seal.id),
        public_key=public_key(keyring),
        rotating=unfinished(contents) or any(slot.state is not SlotState.ACTIVE for slot in contents.slots),
        slots=[SlotShown(one.id, one.state, one.kind, one.wrapper, one.created_at) for one in contents.slots],
        holders=[HolderShown(one.id, one.generation == contents.generation, one.seen_at) for one in holders],
        scopes={scope: [_shown(key, counted) for key in keys] for scope, keys in by_scope(contents).items()},
        destroyed=[DestroyedShown(one.scope, one.at) for one in contents.tombstones],
    )


def show(status: Status, now: int) -> Iterator[str]:
    """The status in lines."""
    yield f"instance {status.instance}, region {status.region}"
    yield f"master key {status.master} ({status.kind}) from {status.source}"
    for slot in status.slots:
        yield f"  slot {slot.id}: {slot.state}, master key {slot.master}, {_age(slot.created_at, now)}"
    yield "a rotation is under way: run it again to go on" if status.rotating else "no rotation is under way"
    yield f"certificates are signed by {status.public_key}"
    late = sum(not holder.current for holder in status.holders)
    yield f"running processes: {len(status.holders)}" + (f", {late} with older keys" if late else "")
    for scope, keys in status.scopes.items():
        yield f"keys of {'the instance' if scope == INSTANCE else f'organisation {scope}'}"
        for key in keys:
            state = "" if key.state == KeyState.PRIMARY else f", {key.state}"
            values = "" if key.values is None else f", {key.values} values"
            yield f"  {key.purpose} {key.version}{state}, {_age(key.created_at, now)}{values}"
    for dead in status.destroyed:
        yield f"destroyed: organisation {dead.organization}, {when(dead.at)}"


def _shown(key: WrappedKey, counted: Mapping[bytes, int] | None) -> KeyShown:
    values = counted.get(key.id, 0) if counted is not None and key.purpose == Purpose.DB else None
    return KeyShown(key.purpose, key.version, key.state, key.id.hex(), key.created_at, values)


def _age(since: int, now: int) -> str:
    hours = max(now - since, 0) / 3_600_000
    return f"{hours / 24:.0f} days old" if hours >= 48 else f"{hours:.0f} hours old"


def when(milliseconds: int) -> str:
    """A time for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(milliseconds / 1000))
