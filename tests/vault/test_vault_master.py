"""The master key: made once, kept private, refused when weak, never shown."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import Fault
from ostiary.vault.master import ENV_FILE, ENV_VALUE, load_master_key

GOOD = hashlib.shake_256(b"a key of the tests").digest(32)


def test_the_first_start_makes_a_private_key_and_the_second_reads_it(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    first = load_master_key(directory, {})
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "master.key").stat().st_mode) == 0o600
    assert [file.name for file in directory.iterdir()] == ["master.key"]
    assert len(first.material) == 32
    second = load_master_key(directory, {})
    assert (second.material, second.id) == (first.material, first.id)


def test_two_instances_have_two_keys(tmp_path: Path) -> None:
    assert load_master_key(tmp_path / "a", {}).material != load_master_key(tmp_path / "b", {}).material


@pytest.mark.parametrize(
    "text",
    [
        GOOD.hex(),
        GOOD.hex().upper(),
        base64.b64encode(GOOD).decode(),
        base64.urlsafe_b64encode(GOOD).decode().rstrip("="),
    ],
)
def test_the_environment_gives_it_as_hex_or_base64(tmp_path: Path, text: str) -> None:
    key = load_master_key(tmp_path / "unused", {ENV_VALUE: text})
    assert (key.material, key.source) == (GOOD, ENV_VALUE)
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("content", [GOOD, GOOD.hex().encode() + b"\n", base64.b64encode(GOOD) + b"\n"])
def test_a_named_file_holds_it_raw_or_as_text(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mk"
    path.write_bytes(content)
    path.chmod(0o600)
    assert load_master_key(tmp_path, {ENV_FILE: str(path)}).material == GOOD


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "0 bytes"),
        (GOOD[:31].hex(), "31 bytes"),
        (base64.b64encode(GOOD * 2).decode(), "64 bytes"),
        ("00" * 32, "equal"),
        ("0102030405060701" * 4, "distinct"),
        (b"correct horse battery staple 123".hex(), "printable"),
        ("correct horse battery staple 123", "printable"),
        ("sk-1234", "5 bytes"),
        (bytes(range(32)).hex(), "sequence"),
        (bytes(range(255, 223, -1)).hex(), "sequence"),
        ("000102030405060708090a0b0c0d0e0f" * 2, "repeats"),
        ((b"sk-1234-and-more" + bytes(16)).hex(), "filled up"),
        ((bytes(8) + GOOD[:16] + bytes(8)).hex(), "filled up"),
        (hashlib.sha256(b"sk-1234").hexdigest(), "well known"),
        (hashlib.sha256(b"").hexdigest(), "well known"),
        (hashlib.sha256(b"password\n").hexdigest(), "well known"),
        (base64.b64encode(hashlib.sha512(b"changeme").digest()[:32]).decode(), "well known"),
        ("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", "well known"),
        ("\u00e4" * 40, "neither hex nor base64"),
    ],
)
def test_weak_or_malformed_keys_are_refused_without_showing_them(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Fault) as refused:
        load_master_key(tmp_path, {ENV_VALUE: text})
    assert said in refused.value.public
    assert ENV_VALUE in refused.value.public
    assert not text or text not in refused.value.public


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mk"
    path.write_bytes(GOOD)
    path.chmod(0o644)
    with pytest.raises(Fault) as refused:
        load_master_key(tmp_path, {ENV_FILE: str(path)})
    assert "chmod 600" in refused.value.public


def test_a_missing_file_and_a_directory_are_refused_and_nothing_is_made(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(Fault):
            load_master_key(tmp_path / "data", {ENV_FILE: str(path)})
    assert os.listdir(tmp_path) == []


def test_two_sources_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="internal"):
        load_master_key(tmp_path, {ENV_VALUE: GOOD.hex(), ENV_FILE: "x"})


def test_a_damaged_key_file_is_not_replaced(tmp_path: Path) -> None:
    load_master_key(tmp_path / "data", {})
    path = tmp_path / "data" / "master.key"
    path.write_bytes(b"")
    with pytest.raises(Fault):
        load_master_key(tmp_path / "data", {})
    assert path.read_bytes() == b""


def test_its_repr_shows_the_id_only(tmp_path: Path) -> None:
    key = load_master_key(tmp_path, {ENV_VALUE: GOOD.hex()})
    assert repr(key) == f"MasterKey(id={key.id}, source={ENV_VALUE})"


@given(st.binary(min_size=32, max_size=32).map(lambda seed: hashlib.sha3_256(b"any" + seed).digest()))
def test_a_random_key_is_never_refused(key: bytes) -> None:
    assert load_master_key(Path("unused"), {ENV_VALUE: key.hex()}).material == key
