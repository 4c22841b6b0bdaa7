"""Identifiers as pure functions of time and entropy. It must not read a clock or a random source itself."""

from __future__ import annotations

import zlib

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
KEY_PREFIX = "sk-ost-"
KID_LENGTH = 12
SECRET_LENGTH = 43
CHECK_LENGTH = 6


def time_ordered_id(milliseconds: int, entropy: int) -> str:
    """A UUID version 7 (RFC 9562, 5.7) as text, from Unix milliseconds and at least 74 random bits."""
    high = (milliseconds & 0xFFFFFFFFFFFF) << 16 | 0x7000 | (entropy & 0xFFF)
    low = 0x8000000000000000 | (entropy >> 12) & 0x3FFFFFFFFFFFFFFF
    text = f"{high:016x}{low:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def random_tail(entropy: int) -> str:
    """The last two groups of a UUID as text, from 62 random bits: the variant and the random part."""
    text = f"{0x8000000000000000 | entropy & 0x3FFFFFFFFFFFFFFF:016x}"
    return f"{text[:4]}-{text[4:]}"


def base62(number: int, length: int) -> str:
    """`number` in base 62, padded or cut to `length` characters."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(BASE62[digit])
    return "".join(reversed(digits))


def mint_key(region: str, entropy: bytes) -> str:
    """A virtual key `sk-ost-<region>-<kid><...>`: 12 characters of kid, 43 of secret, 6 of CRC-32 over all before.

    Args:
        region: 2 to 8 lower-case letters or digits.
        entropy: at least 43 random bytes; the kid is made from the first 10, the secret from the rest.
    """
    if len(entropy) < 43:
        raise ValueError("a key needs 43 bytes of entropy")
    kid = base62(int.from_bytes(entropy[:10], "big"), KID_LENGTH)
    secret = base62(int.from_bytes(entropy[10:], "big"), SECRET_LENGTH)
    text = f"{KEY_PREFIX}{region}-{kid}-{secret}"
    return text + checksum(text)


def checksum(text: str) -> str:
    """The six base-62 digits of the CRC-32 of `text`."""
    return base62(zlib.crc32(text.encode()), CHECK_LENGTH)


def well_formed_key(text: str) -> bool | None:
    """Whether a key of our own format carries the right checksum; None for a key of foreign format."""
    if not text.startswith(KEY_PREFIX):
        return None
    parts = text.split("-")
    if len(parts) != 5 or len(parts[3]) != KID_LENGTH or len(parts[4]) != SECRET_LENGTH + CHECK_LENGTH:
        return None if len(parts) != 5 else False
    return checksum(text[:-CHECK_LENGTH]) == text[-CHECK_LENGTH:]


def key_hint(text: str) -> str:
    """What may be shown of a key: `sk-...last4`."""
    return f"sk-...{text[-4:]}"
