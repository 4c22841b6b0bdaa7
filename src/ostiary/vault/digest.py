"""The keyed digest under which a virtual key is stored and found. It must not keep or show the key's text."""

from __future__ import annotations

import hashlib
from collections.abc import Callable


def digester(pepper: bytes) -> Callable[[str], bytes]:
    """HMAC-SHA256 of a virtual key under the instance's pepper, as a function from the key's text to the look-up value.

    HMAC's two padded blocks (RFC 2104) are hashed once, since it runs on every request.

    Args:
        pepper: 32 bytes, `Keyring.key(Purpose.APIKEY_PEPPER)`.

    Returns:
        a function of the key as presented (any text, lone surrogates included) that gives 32 bytes.
    """
    padded = pepper.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

    def digest(text: str) -> bytes:
        first, second = inner.copy(), outer.copy()
        first.update(text.encode("utf-8", "surrogatepass"))
        second.update(first.digest())
        return second.digest()

    return digest
