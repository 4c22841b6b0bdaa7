"""The keyed digest under which a virtual key is stored and found. It must not keep or show the key's text."""

from __future__ import annotations

import hmac


def key_digest(pepper: bytes, text: str) -> bytes:
    """HMAC-SHA256 of a virtual key under the instance's pepper.

    Args:
        pepper: 32 bytes, `Keyring.key(Purpose.APIKEY_PEPPER)`.
        text: the key as presented; any text, lone surrogates included.

    Returns:
        32 bytes: the look-up value.
    """
    return hmac.digest(pepper, text.encode("utf-8", "surrogatepass"), "sha256")
