"""The keyed digest under which a virtual key is stored and found. It must not keep or show the key's text."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable


def key_digest(pepper: bytes, text: str) -> bytes:
    """HMAC-SHA256 of a virtual key under the instance's pepper.

    Args:
        pepper: 32 bytes, `Keyring.key(Purpose.APIKEY_PEPPER)`.
        text: the key as presented; any text, lone surrogates included.

    Returns:
        32 bytes: the look-up value.
    """
    return hmac.digest(pepper, text.encode("utf-8", "surrogatepass"), "sha256")


def digester(pepper: bytes) -> Callable[[str], bytes]:
    """`key_digest` for one pepper, with HMAC's two padded blocks hashed once (RFC 2104): it runs on every request."""
    padded = pepper.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

    def digest(text: str) -> bytes:
        first, second = inner.copy(), outer.copy()
        first.update(text.encode("utf-8", "surrogatepass"))
        second.update(first.digest())
        return second.digest()

    return digest
