"""Purpose keys, the root key behind the master key, keyed digests, and documents with credentials in them."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.secret import Secret
from ostiary.vault.digest import digester
from ostiary.vault.document import guarded, is_credential, masked, open_document, seal_document
from ostiary.vault.envelope import Context, SealBroken
from ostiary.vault.keyring import Keyring, Purpose, new_root, open_keyring
from ostiary.vault.master import MasterKey

MASTER = MasterKey(bytes(range(32)), "test")
HERE = Context(table="models", column="params", row="m1", revision=1)


def test_purposes_are_unique_strings_and_give_unequal_keys() -> None:
    assert len({purpose.value for purpose in Purpose}) == len(Purpose)
    ring = Keyring(bytes(32), "instance", "eu")
    assert len({ring.key(purpose) for purpose in Purpose}) == len(Purpose)


def test_keys_differ_between_instances_but_not_between_starts() -> None:
    key = Keyring(bytes(32), "one", "eu").key(Purpose.APIKEY_PEPPER)
    assert key == Keyring(bytes(32), "one", "eu").key(Purpose.APIKEY_PEPPER)
    assert key != Keyring(bytes(32), "two", "eu").key(Purpose.APIKEY_PEPPER)


def test_the_root_opens_with_its_master_key_only() -> None:
    wrapped = new_root(MASTER, "instance", "eu")
    assert repr(open_keyring(MASTER, wrapped, "instance", "eu")) == "Keyring(instance=instance, region=eu)"
    for master, instance, region in (
        (MasterKey(bytes(range(1, 33)), "test"), "instance", "eu"),
        (MASTER, "other", "eu"),
        (MASTER, "instance", "us"),
    ):
        with pytest.raises(SealBroken):
            open_keyring(master, wrapped, instance, region)


def test_two_roots_are_unequal() -> None:
    rings = [open_keyring(MASTER, new_root(MASTER, "i", "eu"), "i", "eu") for _ in range(2)]
    assert rings[0].key(Purpose.ROW_SEAL) != rings[1].key(Purpose.ROW_SEAL)


@given(st.text(st.characters(exclude_categories=[])))
def test_a_digest_is_hmac_sha256_of_any_text(text: str) -> None:
    digest = digester(b"p" * 32)(text)
    assert digest == hmac.new(b"p" * 32, text.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()


@pytest.mark.parametrize(
    "name",
    ["api_key", "API_KEY", "aws_secret_access_key", "aws_session_token", "vertex_credentials", "azure_ad_token",
     "client_secret", "password", "authorization", "aws_access_key_id", "auth_token", "x-api-key"],
)  # fmt: skip
def test_credentials_are_known_by_name(name: str) -> None:
    assert is_credential(name)


@pytest.mark.parametrize(
    "name",
    ["model", "max_tokens", "api_base", "input_cost_per_token", "litellm_credential_name", "organization", "rpm"],
)
def test_other_names_are_none(name: str) -> None:
    assert not is_credential(name)


def secrets_in(value: object) -> Iterator[str]:
    if isinstance(value, Secret):
        yield value.reveal()
    elif isinstance(value, dict):
        for inner in value.values():
            yield from secrets_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from secrets_in(inner)


def test_a_document_comes_back_with_its_credentials_guarded() -> None:
    document = {
        "model": "openai/gpt-4o",
        "api_key": "canary-1",
        "extra_headers": {"x-team": "canary-2"},
        "nested": {"list": [{"password": "canary-3"}]},
        "max_tokens": 5,
    }
    sealer = Keyring(bytes(32), "i", "eu").sealer(Purpose.ROW_SEAL)
    sealed = seal_document(sealer, guarded(document), HERE)
    assert b"canary" not in sealed
    opened = open_document(sealer, sealed, HERE)
    assert opened["model"] == "openai/gpt-4o"
    assert opened["max_tokens"] == 5
    assert sorted(secrets_in(opened)) == ["canary-1", "canary-2", "canary-3"]
    assert "canary" not in repr(opened)
    assert masked(opened) == {
        "model": "openai/gpt-4o",
        "api_key": "****",
        "extra_headers": {"x-team": "****"},
        "nested": {"list": [{"password": "****"}]},
        "max_tokens": 5,
    }


def test_a_sealed_value_that_is_no_document_is_refused() -> None:
    sealer = Keyring(bytes(32), "i", "eu").sealer(Purpose.ROW_SEAL)
    with pytest.raises(SealBroken):
        open_document(sealer, sealer.seal(b"[1]", HERE), HERE)
