"""Blind indexes: one form for what means the same, and nothing to learn without the key."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.vault.blind import canonical_email, canonical_text
from ostiary.vault.purpose import Purpose
from ostiary.vault.scope import Loaded, Scope


def scope(key: bytes, name: str = "org-1") -> Scope:
    return Scope(name, "instance", "eu", {Purpose.BLIND_INDEX: [Loaded(b"keyid-01", 1, key, primary=True)]})


@pytest.mark.attack("CRY-14")
@pytest.mark.parametrize(
    "variant",
    ["ann@example.com", "ann@EXAMPLE.com", " ann@Example.COM ", "ann\uff20example.com", "ann@example\u3002com",
     "ann@\uff45xample.com", "ann@example.com."],
)  # fmt: skip
def test_cry_14_variants_of_an_address_have_one_form(variant: str) -> None:
    assert canonical_email(variant) == "ann@example.com"


@pytest.mark.attack("CRY-14")
@pytest.mark.parametrize(
    "other", ["Ann@example.com", "ann@example.co", "ann+1@example.com", "ann", "\u0430nn@example.com"]
)
def test_cry_14_other_addresses_stay_others(other: str) -> None:
    assert canonical_email(other) != "ann@example.com"


@given(st.text())
def test_a_canonical_form_is_its_own(text: str) -> None:
    assert canonical_text(canonical_text(text)) == canonical_text(text)


@pytest.mark.attack("CRY-14")
@given(st.binary(min_size=32, max_size=32), st.text(max_size=40))
def test_cry_14_an_index_is_made_with_the_key_and_with_nothing_less(key: bytes, text: str) -> None:
    index = scope(key).index("users", "email", text)
    assert index == scope(key).index("users", "email", text)
    assert index != scope(bytes(32 - 1) + b"\1" if key == bytes(32) else bytes(32)).index("users", "email", text)
    assert index != scope(key, "org-2").index("users", "email", text)
    guess = text.encode("utf-8", "surrogatepass")
    assert index not in {hashlib.sha256(guess).digest()[:16], hmac.digest(b"", guess, "sha256")[:16]}
