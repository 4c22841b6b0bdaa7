"""Keys derived from keys (HKDF-SHA512, RFC 5869). It must not be used for what has to be replaceable by itself."""

from __future__ import annotations

import hashlib
import hmac


def derived(secret: bytes, salt: str, purpose: str, length: int) -> bytes:
    """`length` bytes, 64 at most, for one purpose; `ostiary/1/` goes before its name."""
    if not 0 < length <= 64:
        raise ValueError("1 to 64 bytes can be derived at once")
    extracted = hmac.digest(salt.encode(), secret, hashlib.sha512)
    return hmac.digest(extracted, f"ostiary/1/{purpose}".encode() + b"\x01", hashlib.sha512)[:length]
