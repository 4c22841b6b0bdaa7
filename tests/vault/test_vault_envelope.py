"""The envelope: opens where it was sealed, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.vault.envelope import Context, SealBroken, Sealer

VECTORS = json.loads((Path(__file__).parent / "envelope1.json").read_text())
HERE = Context(table="models", column="params", row="m1", revision=3, origin="https://api.example:443")
SEALER = Sealer(bytes(range(32)), b"keyid-01", "instance", "eu")


def sealer_of(vector: dict[str, str]) -> Sealer:
    return Sealer(bytes.fromhex(vector["key"]), bytes.fromhex(vector["key_id"]), vector["instance"], vector["region"])


@pytest.mark.parametrize("vector", VECTORS["must_open"], ids=lambda vector: vector["name"])
def test_published_vectors_open(vector: dict) -> None:
    plain = sealer_of(vector).open(bytes.fromhex(vector["sealed"]), Context(**vector["context"]))
    assert plain == bytes.fromhex(vector["plaintext"])


@pytest.mark.parametrize("vector", VECTORS["must_fail"], ids=lambda vector: vector["name"])
def test_published_vectors_that_must_fail_do(vector: dict) -> None:
    with pytest.raises(SealBroken):
        sealer_of(vector).open(bytes.fromhex(vector["sealed"]), Context(**vector["context"]))


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
        {"organization": "o1"},
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
        Sealer(bytes(range(32)), b"keyid-01", "another", "eu"),
        Sealer(bytes(range(32)), b"keyid-01", "instance", "us"),
        Sealer(bytes(range(1, 33)), b"keyid-01", "instance", "eu"),
        Sealer(bytes(range(32)), b"keyid-02", "instance", "eu"),
    ],
)
def test_cry_02_another_instance_region_or_key_is_refused(other: Sealer) -> None:
    with pytest.raises(SealBroken):
        other.open(SEALER.seal(b"x", HERE), HERE)


def test_neighbouring_parts_of_a_context_cannot_be_shifted_into_each_other() -> None:
    sealed = SEALER.seal(b"x", Context(table="ab", column="c", row="d", revision=1))
    with pytest.raises(SealBroken):
        SEALER.open(sealed, Context(table="a", column="bc", row="d", revision=1))


def test_equal_plaintexts_have_unequal_ciphertexts() -> None:
    assert SEALER.seal(b"same", HERE) != SEALER.seal(b"same", HERE)
