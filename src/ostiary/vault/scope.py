"""The keys of one organisation, or of the instance, in memory. It must not read the keystore or show a key."""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Mapping, Sequence

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.vault.envelope import Context, DataKey, UnknownKey, key_id_of
from ostiary.vault.purpose import Purpose

INSTANCE = "-"
INDEX_LENGTH = 16

_LENGTH = struct.Struct(">I").pack


class Loaded:
    """One unwrapped key. `primary` tells the version in use from those that only open what is older, or newer."""

    __slots__ = ("id", "key", "primary", "version")

    def __init__(self, key_id: bytes, version: int, key: bytes, *, primary: bool) -> None:
        self.id = key_id
        self.version = version
        self.key = key
        self.primary = primary

    def __repr__(self) -> str:
        return f"Loaded({self.id.hex()}, version={self.version}, primary={self.primary})"


class Scope:
    """Seals, opens, indexes and authenticates for one organisation; `id` is bound into all of it. Nothing waits.

    Args:
        scope_id: the organisation's id, or `INSTANCE`.
        instance: id of the instance.
        region: its region.
        keys: by purpose, all versions that are to be used; one of each is primary.
    """

    __slots__ = ("__weakref__", "_bound", "_by_id", "_keys", "_primary", "id")

    def __init__(self, scope_id: str, instance: str, region: str, keys: Mapping[Purpose, Sequence[Loaded]]) -> None:
        self.id = scope_id
        self._bound = (instance, region, scope_id)
        self.replace(keys)

    def replace(self, keys: Mapping[Purpose, Sequence[Loaded]]) -> None:
        """Use other versions from here on; whoever holds this scope sees them."""
        self._by_id = {one.id: DataKey(one.key, one.id, self._bound) for one in keys.get(Purpose.DB, ())}
        # the primary first
        self._keys = {
            purpose: [(one.id, one.key) for one in sorted(versions, key=lambda one: not one.primary)]
            for purpose, versions in keys.items()
        }
        primary = next((one.id for one in keys.get(Purpose.DB, ()) if one.primary), None)
        self._primary = self._by_id.get(primary) if primary is not None else None

    def forget(self) -> None:
        """The keys are destroyed: nothing opens any more."""
        self._by_id, self._keys, self._primary = {}, {}, None

    def seal(self, plaintext: bytes, where: Context) -> bytes:
        """The envelope of `plaintext`, bound to this scope and to `where`.

        Raises:
            Fault: INTERNAL when the keys are destroyed.
        """
        if self._primary is None:
            raise self._destroyed()
        return self._primary.seal(plaintext, where)

    def open(self, sealed: bytes, where: Context) -> bytes:
        """The plaintext sealed at `where`.

        Raises:
            UnknownKey: it names a key that is not loaded.
            SealBroken: it does not open here.
        """
        key = self._by_id.get(key_id_of(sealed) or b"")
        if key is None:
            raise UnknownKey(where)
        return key.open(sealed, where)

    def is_current(self, sealed: bytes) -> bool:
        """Whether a value is sealed under the primary key."""
        return self._primary is not None and key_id_of(sealed) == self._primary.id

    def index(self, table: str, column: str, text: str) -> bytes:
        """The blind index of a text: 16 bytes that are equal for equal texts of this column and scope only."""
        message = _joined("ostiary/index/1", self.id, table, column, text)
        return hmac.digest(self.key(Purpose.BLIND_INDEX), message, hashlib.sha256)[:INDEX_LENGTH]

    def mac(self, message: bytes) -> bytes:
        """32 bytes that nobody without the key can make for this message."""
        return hmac.digest(self.key(Purpose.ROW_MAC), self._own(message), hashlib.sha256)

    def verifies(self, message: bytes, mac: bytes) -> bool:
        """Whether `mac` was made for this message, under any version of the key that is still in use."""
        own = self._own(message)
        return any(
            hmac.compare_digest(hmac.digest(key, own, hashlib.sha256), mac)
            for _, key in self._keys.get(Purpose.ROW_MAC, ())
        )

    def key(self, purpose: Purpose) -> bytes:
        """The 32 bytes of the primary key for a purpose.

        Raises:
            Fault: INTERNAL when this scope has none.
        """
        keys = self._keys.get(purpose)
        if not keys:
            raise self._destroyed()
        return keys[0][1]

    def keys(self, purpose: Purpose) -> list[tuple[bytes, bytes]]:
        """All versions of a key with their ids, the primary first."""
        return list(self._keys.get(purpose, ()))

    def __repr__(self) -> str:
        return f"Scope({self.id!r})"

    def _own(self, message: bytes) -> bytes:
        return _LENGTH(len(self.id)) + self.id.encode() + message

    def _destroyed(self) -> Fault:
        return Fault(Kind.INTERNAL, f"the keys of organisation {self.id} are destroyed", origin=Origin.GATEWAY)


def _joined(*parts: str) -> bytes:
    """Length-prefixed parts: no two lists share an encoding. A text that is no Unicode still has an index."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join(_LENGTH(len(part)) + part for part in encoded)
