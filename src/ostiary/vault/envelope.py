"""The one ciphertext format: derived key, AES-256-GCM, key commitment, context as associated data.

It must not offer a nonce, a way around the commitment, or any value for a ciphertext that does not verify.

Layout: magic 'OS' (2) | format 1 (1) | suite 1 (1) | key id (8) | salt (32) | commitment (32) | ciphertext and tag.
HKDF-SHA512(data key, salt, "ostiary/1/value") gives 32 bytes of AES key and 32 of commitment. The AES key serves one
value only, so the nonce is twelve zero bytes.
"""

from __future__ import annotations

import hmac
import os
import struct

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.vault.derive import key_and_commitment

MAGIC = b"OS"
FORMAT = 1
SUITE = 1
KEY_LENGTH = 32
KEY_ID_LENGTH = 8
SALT_LENGTH = 32
HEADER_LENGTH = 76
TAG_LENGTH = 16

_PREFIX = MAGIC + bytes((FORMAT, SUITE))
_NONCE = bytes(12)
_INFO = b"ostiary/1/value"
_AAD = b"ostiary/aad/1"
_LENGTH = struct.Struct(">I").pack
_REVISION = struct.Struct(">Q").pack


class SealBroken(Fault):
    """A stored value that does not open: damaged, moved, of another key, or not ours. Never answered by a value."""

    def __init__(self, where: Context) -> None:
        place = f"{where.table}.{where.column}"
        super().__init__(
            Kind.INTERNAL, f"a sealed value of {place} cannot be opened on this instance", origin=Origin.GATEWAY
        )


class UnknownKey(SealBroken):
    """The value names a data key that is not loaded: another process may have made it a moment ago."""


class Context(msgspec.Struct, frozen=True):
    """Where a sealed value belongs. It opens nowhere else.

    `origin` is `scheme://host:port` for a provider's credential, and empty for everything else.
    """

    table: str
    column: str
    row: str
    revision: int
    origin: str = ""


class DataKey:
    """One key under which values are sealed.

    Args:
        key: 32 bytes.
        key_id: 8 bytes that name the key in the ciphertext.
        bound: what every value is bound to besides its context: instance id, region, organisation.
    """

    __slots__ = ("_bound", "_key", "id")

    def __init__(self, key: bytes, key_id: bytes, bound: tuple[str, str, str]) -> None:
        if len(key) != KEY_LENGTH or len(key_id) != KEY_ID_LENGTH:
            raise ValueError("a data key has 32 bytes and its id 8")
        self._key = key
        self.id = key_id
        self._bound = b"".join(_prefixed(part) for part in (_AAD, *(text.encode() for text in bound)))

    def seal(self, plaintext: bytes, where: Context) -> bytes:
        """The ciphertext of `plaintext`, 92 bytes longer, bound to `where`."""
        return self._seal(plaintext, where, os.urandom(SALT_LENGTH))

    def open(self, sealed: bytes, where: Context) -> bytes:
        """The plaintext sealed at `where`.

        Raises:
            SealBroken: for anything else.
        """
        header = sealed[:HEADER_LENGTH]
        if key_id_of(sealed) != self.id:
            raise SealBroken(where)
        key, commitment = self._derive(header[12:44])
        if not hmac.compare_digest(commitment, header[44:]):
            raise SealBroken(where)
        try:
            return AESGCM(key).decrypt(_NONCE, sealed[HEADER_LENGTH:], self._associated(where, header))
        except InvalidTag:
            raise SealBroken(where) from None

    def _seal(self, plaintext: bytes, where: Context, salt: bytes) -> bytes:
        key, commitment = self._derive(salt)
        header = _PREFIX + self.id + salt + commitment
        return header + AESGCM(key).encrypt(_NONCE, plaintext, self._associated(where, header))

    def _derive(self, salt: bytes) -> tuple[bytes, bytes]:
        return key_and_commitment(self._key, salt, _INFO)

    def _associated(self, where: Context, header: bytes) -> bytes:
        """Length-prefixed parts: no two contexts share an encoding. An origin, where there is one, comes last."""
        parts = (where.table.encode(), where.column.encode(), where.row.encode(), _REVISION(where.revision), header)
        joined = self._bound + b"".join([_LENGTH(len(part)) + part for part in parts])
        return joined + _prefixed(where.origin.encode()) if where.origin else joined


def key_id_of(sealed: bytes) -> bytes | None:
    """The id of the key that a value was sealed under, None where it is not of this format."""
    if len(sealed) < HEADER_LENGTH + TAG_LENGTH or sealed[:4] != _PREFIX:
        return None
    return bytes(sealed[4:12])


def _prefixed(part: bytes) -> bytes:
    return _LENGTH(len(part)) + part
