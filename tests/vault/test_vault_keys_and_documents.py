"""Keyed digests, and documents with credentials in them."""

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
from ostiary.vault.purpose import Purpose
from ostiary.vault.scope import INSTANCE, Loaded, Scope

SCOPE = Scope(INSTANCE, "i", "eu", {Purpose.DB: [Loaded(b"keyid-01", 1, bytes(32), primary=True)]})
HERE = Context(table="models", column="params", row="m1", revision=1)


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
    sealed = seal_document(SCOPE, guarded(document), HERE)
    assert b"canary" not in sealed
    opened = open_document(SCOPE, sealed, HERE)
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
    with pytest.raises(SealBroken):
        open_document(SCOPE, SCOPE.seal(b"[1]", HERE), HERE)
