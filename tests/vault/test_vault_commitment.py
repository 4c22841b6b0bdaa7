"""Key commitment: a ciphertext belongs to one key, though AES-GCM alone would let it belong to two."""

from __future__ import annotations

import struct

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ostiary.vault.envelope import Context, DataKey, SealBroken
from ostiary.vault.scope import INSTANCE

HERE = Context(table="models", column="params", row="m1", revision=3)


def multiplied(left: int, right: int) -> int:
    """In GF(2^128), as NIST SP 800-38D writes it: the first bit is the lowest power."""
    product = 0
    for bit in range(127, -1, -1):
        if right >> bit & 1:
            product ^= left
        left = left >> 1 ^ (0xE1 << 120 if left & 1 else 0)
    return product


def inverse(value: int) -> int:
    result, power = 1 << 127, value
    for _ in range(127):
        power = multiplied(power, power)
        result = multiplied(result, power)
    return result


def parts_of_tag(key: bytes, associated: bytes) -> tuple[int, int]:
    """For one block of ciphertext: what it is multiplied with in the tag, and all else that the tag is the sum of."""
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update
    subkey = int.from_bytes(block(bytes(16)), "big")
    padded = associated + bytes(-len(associated) % 16)
    rest = 0
    lengths = struct.pack(">QQ", len(associated) * 8, 128)
    for piece in (*(padded[at : at + 16] for at in range(0, len(padded), 16)), bytes(16), lengths):
        rest = multiplied(rest ^ int.from_bytes(piece, "big"), subkey)
    return multiplied(subkey, subkey), rest ^ int.from_bytes(block(bytes(15) + b"\1"), "big")


@pytest.mark.attack("CRY-05")
def test_cry_05_a_ciphertext_made_for_two_keys_opens_under_the_one_it_is_committed_to() -> None:
    bound = ("instance", "eu", INSTANCE)
    first, second = DataKey(b"1" * 32, b"keyid-01", bound), DataKey(b"2" * 32, b"keyid-01", bound)
    salt = bytes(32)
    (one, commitment), (two, _) = first._derive(salt), second._derive(salt)
    header = b"OS\x01\x01keyid-01" + salt + commitment
    associated = first._associated(HERE, header)
    (factor, rest), (other_factor, other_rest) = parts_of_tag(one, associated), parts_of_tag(two, associated)
    block = multiplied(rest ^ other_rest, inverse(factor ^ other_factor))
    tag = multiplied(block, factor) ^ rest
    crafted = header + block.to_bytes(16, "big") + tag.to_bytes(16, "big")

    texts = {AESGCM(key).decrypt(bytes(12), crafted[76:], associated) for key in (one, two)}
    assert len(texts) == 2  # to GCM alone it is a good ciphertext of two keys
    assert first.open(crafted, HERE) in texts
    with pytest.raises(SealBroken):
        second.open(crafted, HERE)
