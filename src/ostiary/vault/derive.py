"""Keys derived from keys (HKDF-SHA512, RFC 5869). It must not be used for what has to be replaceable by itself.

Written out as two HMACs, which costs half of what the library's class does: SHA-512 gives all 64 bytes in one block.
"""

from __future__ import annotations

import hashlib
import hmac


def derived(secret: bytes, salt: str, purpose: str, length: int) -> bytes:
    """`length` bytes, 64 at most, for one purpose; `ostiary/1/` goes before its name."""
    if not 0 < length <= 64:
        raise ValueError("1 to 64 bytes can be derived at once")
    return _block(secret, salt.encode(), f"ostiary/1/{purpose}".encode())[:length]


def key_and_commitment(secret: bytes, salt: bytes, info: bytes) -> tuple[bytes, bytes]:
    """A key that is used for one thing only, and what commits a ciphertext to it, 32 bytes each."""
    both = _block(secret, salt, info)
    return both[:32], both[32:]


def _block(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """The first 64 bytes."""
    return hmac.digest(hmac.digest(salt, secret, hashlib.sha512), info + b"\x01", hashlib.sha512)
