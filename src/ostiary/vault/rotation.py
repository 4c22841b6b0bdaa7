"""Rotation of data keys while others work: new keys, everything sealed again, old keys gone. It must not destroy a key
that something is still sealed under.

    new keys that open, but do not seal       add_versions       then every process is waited for
    new keys seal, old ones only open         promote_versions   then every process is waited for
    what is sealed under old keys is sealed again, until nothing is left, counted at one moment
    old keys are destroyed

Which step is next stands in the keystore alone, so that a rotation that was killed goes on by being run again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.vault.hierarchy import add_versions, promote_versions
from ostiary.vault.keyring import Keyring
from ostiary.vault.keystore import KEK, Contents, Edit, KeyState, WrappedKey
from ostiary.vault.purpose import Purpose
from ostiary.vault.scope import INSTANCE

ALIVE_SECONDS = 90.0  # a process that has not been heard of for so long has ended: it speaks every 30 s
PATIENCE_SECONDS = 300.0  # for processes that are alive and do not load the new keys
GRACE_SECONDS = 3.0  # for those that have only just begun, or end soon, and do not say that they live
LOOK_SECONDS = 0.2
LINGER_SECONDS = 7 * 86_400.0  # old keys for what lies outside of the database: journals, sessions
LINGERING = frozenset({str(Purpose.JOURNAL), str(Purpose.SESSION)})
AT_ONCE = 200  # scopes in one change of the keystore

Say = Callable[[str], None]


class Done(Protocol):
    """What sealing again came to."""

    values: int
    macs: int
    passes: int
    broken_rows: int


class Values(Protocol):
    """Where sealed values lie."""

    async def rewrap(self) -> Done:
        """Seal everything under the keys in force, until a look at everything finds nothing left to do."""
        ...

    async def count(self) -> Mapping[bytes, int]:
        """How many values are sealed under each key, by the key's id, at one moment."""
        ...


class Outcome(msgspec.Struct, frozen=True):
    """How a rotation ended. `left` values could not be sealed again: their keys are still there."""

    scopes: int
    values: int
    macs: int
    destroyed: int
    left: int
    broken_rows: int


class Rotation:
    """One rotation of all data keys, new or gone on with.

    Args:
        keyring: open, of no scope in use yet.
        values: what is sealed.
        say: told what happens, a line at a time.
        held: whether something outside of the database is sealed under the key with this id.
        grace: seconds to wait where nobody can be asked.
    """

    def __init__(
        self,
        keyring: Keyring,
        values: Values,
        say: Say,
        *,
        held: Callable[[bytes], bool] = lambda _key: False,
        grace: float = GRACE_SECONDS,
    ) -> None:
        self._keyring = keyring
        self._values = values
        self._say = say
        self._held = held
        self._grace = grace

    async def run(self, *, keep: bool = False) -> Outcome:
        """Rotate.

        Args:
            keep: leave the old keys where they are, to open backups made before; the next run destroys them.

        Raises:
            Fault: UNAVAILABLE when something cannot be asked, or a process does not load the new keys. Run it again.
        """
        scopes = await self._stage()
        await known_to_all(self._keyring, "load the new keys", self._say)
        for scope in scopes:
            await promote_versions(self._keyring, scope)
        self._say(f"new keys are in force: {len(scopes)} scopes")
        await known_to_all(self._keyring, "seal under the new keys", self._say)
        await asyncio.sleep(self._grace)
        done = await self._values.rewrap()
        self._say(f"sealed again: {done.values} values, {done.macs} MACs, in {done.passes} passes")
        await known_to_all(self._keyring, "seal under the new keys", self._say)
        old = retired(await self._keyring.slots.read())
        counted = await self._values.count()
        left = sum(counted.get(key.id, 0) for key in old)
        destroyed = 0 if keep or left else await self._destroy(old)
        return Outcome(len(scopes), done.values, done.macs, destroyed, left, done.broken_rows)

    async def _stage(self) -> list[str]:
        """New keys for every scope that has none yet in this rotation; the scopes that have such keys now."""
        contents = await self._keyring.slots.read()
        todo = unstaged(contents)
        self._say(f"new keys for {len(todo)} scopes" if todo else "going on with the rotation that was begun")
        for scope in todo:
            await add_versions(self._keyring, scope)
        contents = await self._keyring.slots.read()
        return sorted({key.scope for key in contents.keys if key.state is KeyState.DECRYPT_ONLY})

    async def _destroy(self, old: Sequence[WrappedKey]) -> int:
        """Destroy these keys, and the keys that wrapped nothing else."""
        keyring, destroyed = self._keyring, 0
        ids = {key.id for key in old}
        for scopes in _some(sorted({key.scope for key in await _outdated(keyring)})):
            before = await keyring.change(lambda contents: self._without(contents, ids), [INSTANCE, *scopes])
            edit = self._without(before, ids)
            destroyed += len(edit.drop_keys) if edit else 0
        await keyring.slots.forget()
        return destroyed

    def _without(self, contents: Contents, ids: Collection[bytes]) -> Edit | None:
        """The change that drops those of the retired keys, moves those that linger, and drops empty wrapping keys."""
        root, now = self._keyring.root, self._keyring.now()
        put: list[WrappedKey] = []
        drop: set[bytes] = set()
        for keys in by_scope(contents).values():
            current = next(key for key in keys if key.purpose == KEK and key.state is KeyState.PRIMARY)
            keks = root.keks(keys)
            for key in keys:
                if key.state is not KeyState.RETIRED or key.purpose == KEK:
                    continue
                if key.purpose in LINGERING and self._lingers(key, keys, now):
                    if key.parent != current.id:
                        put.append(root.moved(key, root.bare(key, keks), current, root.unwrapped(current)))
                elif key.id in ids or key.purpose in LINGERING:
                    drop.add(key.id)
            moved = {key.id for key in put}
            parents = {key.parent for key in keys if key.purpose != KEK and key.id not in drop | moved}
            drop |= {
                key.id for key in keys if key.purpose == KEK and key.state is KeyState.RETIRED and key.id not in parents
            }
        return Edit(put_keys=tuple(put), drop_keys=tuple(sorted(drop))) if put or drop else None

    def _lingers(self, key: WrappedKey, keys: Sequence[WrappedKey], now: int) -> bool:
        """Whether an old key is still needed outside of the database. It was retired when the one after it was made."""
        since = min(
            (one.created_at for one in keys if one.purpose == key.purpose and one.version > key.version), default=now
        )
        return now - since < LINGER_SECONDS * 1000 or self._held(key.id)


async def known_to_all(keyring: Keyring, what: str, say: Say) -> None:
    """Wait until every process that lives has loaded the keystore as it is now.

    Args:
        what: what they are waited for to do.

    Raises:
        Fault: UNAVAILABLE when one lives and does not do it.
    """
    generation, waited = await keyring.slots.generation(), 0.0
    while True:
        since = keyring.now() - ALIVE_SECONDS * 1000
        holders = await keyring.slots.holders()
        late = [one for one in holders if one.generation < generation and one.seen_at > since]
        if not late:
            return
        if waited == 0.0:
            say(f"waiting for {len(late)} processes to {what}")
        if waited >= PATIENCE_SECONDS:
            public = f"{len(late)} processes live and do not {what}: stop them, and run this again to go on"
            raise Fault(Kind.UNAVAILABLE, public, origin=Origin.GATEWAY)
        await asyncio.sleep(LOOK_SECONDS)
        waited += LOOK_SECONDS


def by_scope(contents: Contents) -> dict[str, list[WrappedKey]]:
    """The keys of each scope."""
    found: dict[str, list[WrappedKey]] = defaultdict(list)
    for key in contents.keys:
        found[key.scope].append(key)
    return found


def retired(contents: Contents) -> list[WrappedKey]:
    """The old keys that a rotation has to get rid of."""
    return [
        key
        for key in contents.keys
        if key.state is KeyState.RETIRED and key.purpose != KEK and key.purpose not in LINGERING
    ]


def unfinished(contents: Contents) -> bool:
    """Whether a rotation was begun and has not ended."""
    return bool(retired(contents)) or any(key.state is KeyState.DECRYPT_ONLY for key in contents.keys)


def unstaged(contents: Contents) -> list[str]:
    """The scopes that need new keys.

    All of them where no rotation is under way. Where one is, those that it has not come to: their keys are older than
    its first. It promotes none before it has come to all.
    """
    scopes = by_scope(contents)
    newest = {scope: max(key.created_at for key in keys if key.purpose == KEK) for scope, keys in scopes.items()}
    staged = {key.scope for key in contents.keys if key.state is KeyState.DECRYPT_ONLY}
    if not staged:
        return [] if retired(contents) else sorted(scopes)
    promoted = {key.scope for key in retired(contents)} - staged
    begun = min(newest[scope] for scope in staged | promoted)
    return sorted(scope for scope in scopes if scope not in staged and newest[scope] < begun)


async def _outdated(keyring: Keyring) -> list[WrappedKey]:
    return [key for key in (await keyring.slots.read()).keys if key.state is KeyState.RETIRED]


def _some(scopes: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(scopes), AT_ONCE):
        yield scopes[start : start + AT_ONCE]
