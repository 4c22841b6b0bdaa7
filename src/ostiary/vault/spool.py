"""What is spooled to the disk on the way of a request: one key for each file. It must not cost a request time.

HKDF-SHA512(key, the file's random salt, "ostiary/1/journal", instance, region, the file's number) gives 32 bytes of AES
key and 32 of commitment. Since a key serves one file, and an offset in it is written once, the offset is the nonce: an
entry costs one AES-256-GCM and no derivation.
"""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Callable, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.vault.derive import key_and_commitment
from ostiary.vault.envelope import KEY_ID_LENGTH, SALT_LENGTH

_INFO = b"ostiary/1/journal"
_LENGTH = struct.Struct(">I").pack
_NONCE = struct.Struct(">IQ").pack


class FileSeal:
    """Seals one file. `header` is what the file has to keep: key id, salt, commitment."""

    __slots__ = ("_decrypt", "_encrypt", "header")

    def __init__(self, key: bytes, header: bytes) -> None:
        cipher = AESGCM(key)
        self._encrypt, self._decrypt = cipher.encrypt, cipher.decrypt
        self.header = header

    def seal(self, payload: bytes, at: int) -> bytes:
        """The payload, sealed for this offset, 16 bytes longer."""
        return self._encrypt(_NONCE(0, at), payload, None)

    def open(self, sealed: bytes, at: int) -> bytes | None:
        """The payload, None where it was not sealed for this offset of this file."""
        try:
            return self._decrypt(_NONCE(0, at), sealed, None)
        except InvalidTag:
            return None


class Spool:
    """Makes the seals of files.

    Args:
        keys: all versions of the key, each with its id of 8 bytes; the one in use first.
        instance: id of the instance.
        region: its region.
    """

    def __init__(self, keys: Callable[[], Sequence[tuple[bytes, bytes]]], instance: str, region: str) -> None:
        self._keys = keys
        self._instance = instance
        self._region = region

    def begin(self, number: int) -> FileSeal:
        """For a new file of this number.

        Raises:
            Fault: UNAVAILABLE when there is no key.
        """
        (key_id, key), salt = self._first(), os.urandom(SALT_LENGTH)
        bare, commitment = self._derive(key, salt, number)
        return FileSeal(bare, key_id + salt + commitment)

    def resume(self, number: int, header: bytes) -> FileSeal | None:
        """For a file that is there; None where it is another's, has another number, or its key is not there."""
        salt = header[KEY_ID_LENGTH : KEY_ID_LENGTH + SALT_LENGTH]
        key = dict(self._keys()).get(header[:KEY_ID_LENGTH])
        if key is None:
            return None
        bare, commitment = self._derive(key, salt, number)
        if not hmac.compare_digest(commitment, header[KEY_ID_LENGTH + SALT_LENGTH :]):
            return None
        return FileSeal(bare, header)

    def is_current(self, header: bytes) -> bool:
        """Whether a file is sealed under the key in use."""
        return self._first()[0] == header[:KEY_ID_LENGTH]

    def knows(self, header: bytes) -> bool:
        """Whether the key that this header names is there."""
        return header[:KEY_ID_LENGTH] in dict(self._keys())

    def _first(self) -> tuple[bytes, bytes]:
        keys = self._keys()
        if not keys:
            public = "There is no key for the usage journal: restore the keystore that belongs to this instance."
            raise Fault(Kind.UNAVAILABLE, public, origin=Origin.GATEWAY)
        return keys[0]

    def _derive(self, key: bytes, salt: bytes, number: int) -> tuple[bytes, bytes]:
        parts = (_INFO, self._instance.encode(), self._region.encode(), str(number).encode())
        info = b"".join(_LENGTH(len(part)) + part for part in parts)
        return key_and_commitment(key, salt, info)
