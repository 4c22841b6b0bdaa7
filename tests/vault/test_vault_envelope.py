"""The envelope: opens where it was sealed, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from ostiary.vault.derive import derived
from ostiary.vault.envelope import Context, DataKey, SealBroken
from ostiary.vault.scope import INSTANCE

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "envelope1.json").read_text())
HERE = Context(table="models", column="params", row="m1", revision=3, origin="https://api.example:443")
SEALER = DataKey(bytes(range(32)), b"keyid-01", ("instance", "eu", INSTANCE))


def opened(vector: dict) -> bytes:
    where = dict(vector["context"])
    bound = (vector["instance"], vector["region"], where.pop("organization"))
    key = DataKey(bytes.fromhex(vector["key"]), bytes.fromhex(vector["key_id"]), bound)
    return key.open(bytes.fromhex(vector["sealed"]), Context(**where))


@pytest.mark.parametrize("vector", VECTORS["must_open"], ids=lambda vector: vector["name"])
def test_published_vectors_open(vector: dict) -> None:
    assert opened(vector) == bytes.fromhex(vector["plaintext"])


@pytest.mark.parametrize("vector", VECTORS["must_fail"], ids=lambda vector: vector["name"])
def test_published_vectors_that_must_fail_do(vector: dict) -> None:
    with pytest.raises(SealBroken):
        opened(vector)


@given(st.binary(max_size=300), st.text(max_size=20), st.integers(0, 2**64 - 1))
def test_what_is_sealed_opens(plaintext: bytes, row: str, revision: int) -> None:
    where = Context(table="t", column="c", row=row, revision=revision)
    sealed = SEALER.seal(plaintext, where)
    assert len(sealed) == len(plaintext) + 92
    assert SEALER.open(sealed, where) == plaintext


def test_cry_01_every_flipped_bit_every_cut_and_every_extra_byte_is_refused() -> None:
    sealed = SEALER.seal(b"a provider's credential", HERE)
    damaged = [sealed[:end] for end in range(len(sealed))] + [sealed + b"\0", b"\0" + sealed]
    for position in range(len(sealed) * 8):
        flipped = bytearray(sealed)
        flipped[position // 8] ^= 1 << position % 8
        damaged.append(bytes(flipped))
    for one in damaged:
        with pytest.raises(SealBroken) as refused:
            SEALER.open(one, HERE)
        assert refused.value.public == "a sealed value of models.params cannot be opened on this instance"


@pytest.mark.parametrize(
    "change",
    [
        {"table": "keys"},
        {"column": "info"},
        {"row": "m2"},
        {"revision": 4},
        {"origin": "https://evil.example:443"},
        {"origin": ""},
    ],
)
def test_cry_02_a_value_moved_elsewhere_is_refused(change: dict) -> None:
    sealed = SEALER.seal(b"x", HERE)
    with pytest.raises(SealBroken):
        SEALER.open(sealed, msgspec.structs.replace(HERE, **change))


@pytest.mark.parametrize(
    "other",
    [
        DataKey(bytes(range(32)), b"keyid-01", ("another", "eu", INSTANCE)),
        DataKey(bytes(range(32)), b"keyid-01", ("instance", "us", INSTANCE)),
        DataKey(bytes(range(32)), b"keyid-01", ("instance", "eu", "o1")),
        DataKey(bytes(range(1, 33)), b"keyid-01", ("instance", "eu", INSTANCE)),
        DataKey(bytes(range(32)), b"keyid-02", ("instance", "eu", INSTANCE)),
    ],
)
def test_cry_02_another_instance_region_organisation_or_key_is_refused(other: DataKey) -> None:
    with pytest.raises(SealBroken):
        other.open(SEALER.seal(b"x", HERE), HERE)


def test_neighbouring_parts_of_a_context_cannot_be_shifted_into_each_other() -> None:
    sealed = SEALER.seal(b"x", Context(table="ab", column="c", row="d", revision=1))
    with pytest.raises(SealBroken):
        SEALER.open(sealed, Context(table="a", column="bc", row="d", revision=1))


def test_equal_plaintexts_have_unequal_ciphertexts() -> None:
    assert SEALER.seal(b"same", HERE) != SEALER.seal(b"same", HERE)


def test_cry_05_the_commitment_refuses_what_gcm_would_open() -> None:
    sealed = bytearray(SEALER.seal(b"x", HERE))
    sealed[44] ^= 1  # the commitment, and the tag made anew for it: to GCM alone this is a fine ciphertext
    key, _ = SEALER._derive(bytes(sealed[12:44]))
    header = bytes(sealed[:76])
    associated = SEALER._associated(HERE, header)
    crafted = header + AESGCM(key).encrypt(bytes(12), b"x", associated)
    assert AESGCM(key).decrypt(bytes(12), crafted[76:], associated) == b"x"
    with pytest.raises(SealBroken):
        SEALER.open(crafted, HERE)


def test_keys_are_derived_as_rfc_5869_says() -> None:
    salt = bytes(range(32))
    theirs = HKDF(algorithm=SHA512(), length=64, salt=salt, info=b"ostiary/1/value").derive(bytes(range(32)))
    assert b"".join(SEALER._derive(salt)) == theirs
    theirs = HKDF(algorithm=SHA512(), length=32, salt=b"i", info=b"ostiary/1/mk-wrap").derive(b"k" * 32)
    assert derived(b"k" * 32, "i", "mk-wrap", 32) == theirs
