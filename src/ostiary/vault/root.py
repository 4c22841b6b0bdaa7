"""The instance root key: wraps the keys of every organisation. It must not be stored, nor used for data."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.vault.derive import derived
from ostiary.vault.envelope import KEY_ID_LENGTH, KEY_LENGTH, Context, DataKey, SealBroken
from ostiary.vault.keystore import KEK, KeyState, Slot, Stamp, WrappedKey
from ostiary.vault.purpose import Purpose, Wrap
from ostiary.vault.scope import INSTANCE, Loaded

_STAMP = Context(table="keystore", column="stamp", row="1", revision=1)


def slot_context(instance: str, region: str, slot_id: str) -> Mapping[str, str]:
    """What a wrapped root is bound to."""
    return {"instance": instance, "region": region, "slot": slot_id}


class Root:
    """The unwrapped root of one instance.

    Args:
        secret: 32 bytes.
        stamp: what the keystore says of the instance.
        slot: where the root was found.

    Raises:
        Fault: INTERNAL when the stamp was edited.
    """

    __slots__ = ("_secret", "_wrapping", "id", "slot", "stamp")

    def __init__(self, secret: bytes, stamp: Stamp, slot: Slot) -> None:
        self._secret = secret
        self.stamp = stamp
        self.slot = slot
        self.id = derived(secret, stamp.instance, f"{Wrap.ORGANIZATION}/id", KEY_ID_LENGTH)
        self._wrapping = DataKey(
            derived(secret, stamp.instance, Wrap.ORGANIZATION, KEY_LENGTH), self.id, self._bound(INSTANCE)
        )
        try:
            said = _stamp_key(secret, stamp.instance).open(stamp.sealed, _STAMP)
        except SealBroken:
            said = b""
        if said != _stamp_text(stamp):
            public = "the keystore does not say of itself what was sealed in it: restore it from its backup"
            raise Fault(Kind.INTERNAL, public, origin=Origin.GATEWAY)

    @classmethod
    def new(cls, secret: bytes, instance: str, region: str, created_at: int, slot: Slot) -> Root:
        """The root of a new instance, or a new root of an old one."""
        bare = Stamp(instance, region, created_at, b"")
        sealed = _stamp_key(secret, instance).seal(_stamp_text(bare), _STAMP)
        return cls(secret, msgspec.structs.replace(bare, sealed=sealed), slot)

    @property
    def instance(self) -> str:
        """The instance's id."""
        return self.stamp.instance

    @property
    def region(self) -> str:
        """The instance's region."""
        return self.stamp.region

    @property
    def master(self) -> str:
        """The id of the master key that unwrapped this."""
        return self.slot.wrapper

    @property
    def secret(self) -> bytes:
        """The root itself, for wrapping it anew."""
        return self._secret

    def opens(self, keys: Iterable[WrappedKey]) -> bool:
        """Whether these keys hang on this root."""
        return any(key.purpose == KEK and key.parent == self.id for key in keys)

    def opened(self, keys: Sequence[WrappedKey]) -> dict[Purpose, list[Loaded]]:
        """The data keys of one scope, by purpose.

        Raises:
            SealBroken: the keystore was damaged or edited.
        """
        wrapping = self.keks(keys)
        found: dict[Purpose, list[Loaded]] = defaultdict(list)
        for key in keys:
            if key.purpose == KEK:
                continue
            bare = self.bare(key, wrapping)
            primary = key.state is KeyState.PRIMARY
            found[Purpose(key.purpose)].append(Loaded(key.id, key.version, bare, primary=primary))
        return found

    def bare(self, key: WrappedKey, keks: Mapping[bytes, DataKey]) -> bytes:
        """A data key.

        Raises:
            SealBroken: the keystore was damaged or edited.
        """
        parent = keks.get(key.parent)
        if parent is None:
            raise SealBroken(_where(key))
        return parent.open(key.wrapped, _where(key))

    def keks(self, keys: Iterable[WrappedKey]) -> dict[bytes, DataKey]:
        """The key-encryption keys among these, by id."""
        return {key.id: self._kek(key, self.unwrapped(key)) for key in keys if key.purpose == KEK}

    def unwrapped(self, kek: WrappedKey) -> bytes:
        """A key-encryption key."""
        return self._wrapping.open(kek.wrapped, _where(kek))

    def fresh(
        self, scope: str, purposes: Iterable[Purpose], version: int, state: KeyState, now: int
    ) -> tuple[WrappedKey, ...]:
        """A new key-encryption key for a scope, and new data keys under it."""
        bare, kek = self.fresh_kek(scope, version, state, now)
        return (kek, *(self.under(kek, bare, str(purpose), version, state, now) for purpose in purposes))

    def fresh_kek(self, scope: str, version: int, state: KeyState, now: int) -> tuple[bytes, WrappedKey]:
        """A new key-encryption key, bare and wrapped."""
        bare = os.urandom(KEY_LENGTH)
        empty = WrappedKey(os.urandom(KEY_ID_LENGTH), scope, KEK, version, state, self.id, b"", now)
        return bare, self.rewrapped(empty, bare)

    def rewrapped(self, kek: WrappedKey, bare: bytes) -> WrappedKey:
        """The same key-encryption key, under this root."""
        return msgspec.structs.replace(kek, parent=self.id, wrapped=self._wrapping.seal(bare, _where(kek)))

    def under(
        self, kek: WrappedKey, kek_bare: bytes, purpose: str, version: int, state: KeyState, now: int
    ) -> WrappedKey:
        """A new data key under a key-encryption key."""
        empty = WrappedKey(os.urandom(KEY_ID_LENGTH), kek.scope, purpose, version, state, kek.id, b"", now)
        return self.moved(empty, os.urandom(KEY_LENGTH), kek, kek_bare)

    def moved(self, key: WrappedKey, bare: bytes, kek: WrappedKey, kek_bare: bytes) -> WrappedKey:
        """The same data key, under another key-encryption key."""
        wrapped = self._kek(kek, kek_bare).seal(bare, _where(key))
        return msgspec.structs.replace(key, parent=kek.id, wrapped=wrapped)

    def _kek(self, kek: WrappedKey, bare: bytes) -> DataKey:
        key = derived(bare, self.instance, Wrap.DATA, KEY_LENGTH)
        return DataKey(key, kek.id, self._bound(kek.scope))

    def _bound(self, scope: str) -> tuple[str, str, str]:
        return self.stamp.instance, self.stamp.region, scope

    def __repr__(self) -> str:
        return f"Root(instance={self.instance}, slot={self.slot.id})"


def _where(key: WrappedKey) -> Context:
    return Context(table="keystore", column=key.purpose, row=key.id.hex(), revision=key.version)


def _stamp_key(secret: bytes, instance: str) -> DataKey:
    key = derived(secret, instance, Wrap.STAMP, KEY_LENGTH)
    return DataKey(key, derived(secret, instance, f"{Wrap.STAMP}/id", KEY_ID_LENGTH), (instance, "-", INSTANCE))


def _stamp_text(stamp: Stamp) -> bytes:
    return msgspec.json.encode([stamp.instance, stamp.region, stamp.created_at])
