"""Keys of an instance, one per purpose, all derived from its root key. It must not use one key for two purposes.

The master key never works itself: it only wraps the random root key, so that it can be replaced without touching
what is stored under the root.
"""

from __future__ import annotations

import os
from enum import StrEnum

from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ostiary.vault.envelope import KEY_ID_LENGTH, Context, Sealer
from ostiary.vault.master import MasterKey

ROOT_LENGTH = 32
_WRAPPED = Context(table="keystore", column="root", row="1", revision=1)


class Purpose(StrEnum):
    """What a derived key is for. The table of domain separation: every string occurs once."""

    MASTER_WRAP = "mk-wrap"
    APIKEY_PEPPER = "apikey-pepper"
    ROW_SEAL = "row-seal"
    OBJECT_NAME = "object-name"


class Keyring:
    """Purpose keys of one instance.

    Args:
        root: the 32 bytes of the instance root key.
        instance: the instance's id, the salt of every derivation.
        region: the instance's region, part of every sealed value's context.
    """

    def __init__(self, root: bytes, instance: str, region: str) -> None:
        if len(root) != ROOT_LENGTH:
            raise ValueError("a root key has 32 bytes")
        self._root = root
        self._instance = instance
        self._region = region

    def key(self, purpose: Purpose) -> bytes:
        """The 32 bytes for this purpose."""
        return _derived(self._root, self._instance, f"ostiary/1/{purpose}/1", 32)

    def sealer(self, purpose: Purpose) -> Sealer:
        """An envelope under this purpose's key."""
        return _sealer(self._root, self._instance, self._region, f"ostiary/1/{purpose}/1")

    def __repr__(self) -> str:
        return f"Keyring(instance={self._instance}, region={self._region})"


def new_root(master: MasterKey, instance: str, region: str) -> bytes:
    """A fresh root key, wrapped by the master key."""
    return _wrapper(master, instance, region).seal(os.urandom(ROOT_LENGTH), _WRAPPED)


def open_keyring(master: MasterKey, wrapped: bytes, instance: str, region: str) -> Keyring:
    """The keyring behind a wrapped root key.

    Raises:
        SealBroken: another master key, instance or region, or a damaged root.
    """
    return Keyring(_wrapper(master, instance, region).open(wrapped, _WRAPPED), instance, region)


def _wrapper(master: MasterKey, instance: str, region: str) -> Sealer:
    return _sealer(master.material, instance, region, f"ostiary/1/{Purpose.MASTER_WRAP}")


def _sealer(secret: bytes, instance: str, region: str, info: str) -> Sealer:
    """The key id is derived too: it names the key and tells nothing about it."""
    both = _derived(secret, instance, info, 32), _derived(secret, instance, f"{info}/id", KEY_ID_LENGTH)
    return Sealer(*both, instance, region)


def _derived(secret: bytes, salt: str, info: str, length: int) -> bytes:
    return HKDF(algorithm=SHA512(), length=length, salt=salt.encode(), info=info.encode()).derive(secret)
