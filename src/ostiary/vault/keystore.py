"""What the keystore holds, and the port to wherever it lies. It must not hold a key that is not wrapped.

    master key (outside) -> slots: the instance root key, wrapped once or, during a change, by two master keys
    root key -> one key-encryption key (purpose `kek`) for the instance and for each organisation
    key-encryption key -> data keys, one for each purpose and version

Every change is one `Edit`, applied in one transaction and only if nobody else has changed anything since it was made:
a process that is killed leaves the state before or the state after, and two that rotate at once cannot mix.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

KEK = "kek"


class SlotState(StrEnum):
    """What a wrapped root is good for."""

    ACTIVE = "active"
    PREVIOUS = "previous"  # of the master key before; one at most
    STAGED = "staged"  # of a master key to come: a start with it makes it the active one


class KeyState(StrEnum):
    """What a data key is used for. All of them open what was sealed under them."""

    DECRYPT_ONLY = "decrypt-only"  # new: until every process has loaded it
    PRIMARY = "primary"  # seals
    RETIRED = "retired"  # until nothing is sealed under it any more


class Slot(msgspec.Struct, frozen=True):
    """The root key, wrapped by one master key, which `kind` and `wrapper` name. Times are Unix milliseconds."""

    id: str
    state: SlotState
    kind: str
    wrapper: str
    wrapped: bytes
    created_at: int


class WrappedKey(msgspec.Struct, frozen=True):
    """One key of one organisation (or of the instance), wrapped by the key `parent`."""

    id: bytes
    scope: str
    purpose: str
    version: int
    state: KeyState
    parent: bytes
    wrapped: bytes
    created_at: int


class Stamp(msgspec.Struct, frozen=True):
    """Whose keystore this is. `sealed` is the same under the root key: an edit shows."""

    instance: str
    region: str
    created_at: int
    sealed: bytes


class Tombstone(msgspec.Struct, frozen=True):
    """An organisation whose keys were destroyed, and the ids of those keys."""

    scope: str
    at: int
    keys: tuple[bytes, ...]


class Holder(msgspec.Struct, frozen=True):
    """A process that has keys in memory: those of `generation`, when it was last seen."""

    id: str
    generation: int
    seen_at: int


class Contents(msgspec.Struct, frozen=True):
    """The keystore as one view. `generation` counts changes; `keys` are those of the scopes asked for."""

    generation: int
    stamp: Stamp | None
    slots: tuple[Slot, ...]
    keys: tuple[WrappedKey, ...]
    tombstones: tuple[Tombstone, ...] = ()

    def of(self, scope: str) -> tuple[WrappedKey, ...]:
        """The keys of one scope."""
        return tuple(key for key in self.keys if key.scope == scope)


class Edit(msgspec.Struct, frozen=True):
    """One change. What is put replaces what has the same id."""

    stamp: Stamp | None = None
    put_slots: tuple[Slot, ...] = ()
    drop_slots: tuple[str, ...] = ()
    put_keys: tuple[WrappedKey, ...] = ()
    drop_keys: tuple[bytes, ...] = ()
    tombstones: tuple[Tombstone, ...] = ()


class KeySlots(Protocol):
    """Where the keystore lies. Every method raises a Fault UNAVAILABLE when it cannot be asked."""

    async def prepare(self) -> None:
        """Make the tables where there are none."""
        ...

    async def generation(self) -> int:
        """How many changes there were."""
        ...

    async def read(self, scopes: Sequence[str] | None = None) -> Contents:
        """Everything, with the keys of these scopes only; None for all."""
        ...

    async def apply(self, edit: Edit, generation: int) -> bool:
        """Make a change; False, and nothing happened, where `generation` is not the present one."""
        ...

    async def hold(self, holder: Holder) -> None:
        """Say that a process lives and what it has loaded."""
        ...

    async def release(self, holder: str) -> None:
        """Say that a process has ended."""
        ...

    async def holders(self) -> list[Holder]:
        """Who said so last."""
        ...

    async def forget(self) -> None:
        """Leave no byte of dropped keys in files."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
