"""Which credential a request carries: one, from any of its places, or none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.credential import CARRIERS
from ostiary.core.fault import Fault, Kind
from ostiary.gateway.policy.identify import credential_of


def refused(headers: list[tuple[bytes, bytes]]) -> Kind:
    with pytest.raises(Fault) as fault:
        credential_of(headers)
    return fault.value.kind


@pytest.mark.parametrize("carrier", sorted(CARRIERS))
@pytest.mark.parametrize("form", [b"%s", b"Bearer %s", b"bearer %s", b"BEARER   %s", b"  %s\t", b"Bearer %s "])
def test_every_place_and_spelling_means_the_same_key(carrier: bytes, form: bytes) -> None:
    assert credential_of([(b"accept", b"*/*"), (carrier, form % b"sk-one")]) == "sk-one"


def test_a_further_carrier_may_be_named_and_no_other_is_looked_at() -> None:
    assert credential_of([(b"x-own", b"sk-one")], b"x-own") == "sk-one"
    assert refused([(b"x-own", b"sk-one")]) is Kind.UNAUTHENTICATED
    assert refused([(b"cookie", b"sk-one"), (b"proxy-authorization", b"Bearer sk-one")]) is Kind.UNAUTHENTICATED


def test_the_same_key_in_two_places_is_one_key() -> None:
    assert credential_of([(b"authorization", b"Bearer sk-one"), (b"api-key", b"sk-one")]) == "sk-one"
    assert credential_of([(b"authorization", b"Bearer "), (b"api-key", b"sk-one")]) == "sk-one"


@pytest.mark.parametrize("second", [b"sk-two", b"sk-one2", b"SK-ONE", b"Bearer Bearer sk-one"])
@pytest.mark.parametrize("place", [b"authorization", b"x-api-key"])
def test_aig_02_two_different_keys_are_no_key(second: bytes, place: bytes) -> None:
    first = (b"authorization", b"Bearer sk-one")
    assert refused([first, (place, second)]) is Kind.INVALID_REQUEST
    assert refused([(place, second), first]) is Kind.INVALID_REQUEST


@pytest.mark.parametrize(
    "value",
    [b"", b" ", b"Bearer", b"Bearer ", b"\xf0\x9f\x94\x91", b"sk-\xe9", b"sk-\x00a", b"sk\na", b"sk\x7f", b"a" * 513,
     b"a" * 1_000_000, b"Bearer " + b"\xff" * 1_000_000],
)  # fmt: skip
def test_aig_02_what_cannot_be_a_key_is_refused_before_anybody_is_asked(value: bytes) -> None:
    if value == b"Bearer":  # a word like any other: it is looked up, and not found
        assert credential_of([(b"authorization", value)]) == "Bearer"
    else:
        assert refused([(b"authorization", value)]) is Kind.UNAUTHENTICATED


def test_aig_02_all_that_is_wrong_with_a_key_sounds_the_same() -> None:
    said = set()
    for value in (b"sk-\xe9", b"sk-\x00a", b"a" * 600):
        with pytest.raises(Fault) as fault:
            credential_of([(b"authorization", value)])
        said.add(fault.value.public)
    assert len(said) == 1


@given(st.lists(st.tuples(st.sampled_from([*sorted(CARRIERS), b"accept"]), st.binary(max_size=40)), max_size=4))
def test_any_headers_give_one_printable_key_or_a_refusal(headers: list[tuple[bytes, bytes]]) -> None:
    try:
        text = credential_of(headers)
    except Fault as fault:
        text = fault.kind.value
    if text in (Kind.UNAUTHENTICATED.value, Kind.INVALID_REQUEST.value):
        return
    assert text.isascii()
    assert text.isprintable()
    carried = [value for name, value in headers if name in CARRIERS]
    assert any(text.encode() in value for value in carried)
