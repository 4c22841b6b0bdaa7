"""`GET /v1/models` with a query: wildcards left out, access groups added, and never a name of somebody else."""

from __future__ import annotations

from contextlib import suppress
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import Fault, Kind
from ostiary.core.key import VirtualKey
from ostiary.core.snapshot import Deployment, PolicySnapshot
from ostiary.gateway.listing import asked_names


def group(name: str) -> tuple[Deployment, ...]:
    return (Deployment(f"id-{name}", name, "openai", name, scheme="http", host="h.test", port=80, base_path=""),)


HOUSE = PolicySnapshot(
    revision=1,
    groups=MappingProxyType({name: group(name) for name in ("gpt", "mini", "secret")}),
    patterns=(("open/*", group("open/*")),),
    access_groups={"staff": frozenset({"gpt"}), "lab": frozenset({"secret"})},
)


def names(query: str, *models: str) -> list[str]:
    return asked_names(HOUSE, VirtualKey(id="k", digest=b"k", models=models), query.encode())


@pytest.mark.parametrize(
    ("query", "models", "listed"),
    [
        ("", (), ["gpt", "mini", "secret", "open/*"]),
        ("return_wildcard_routes=true", (), ["gpt", "mini", "secret", "open/*"]),
        ("return_wildcard_routes=false", (), ["gpt", "mini", "secret"]),
        ("return_wildcard_routes=0", ("open/*", "open/a"), ["open/a"]),
        ("include_model_access_groups=true", (), ["gpt", "mini", "secret", "open/*", "staff", "lab"]),
        ("include_model_access_groups=True", ("staff", "mini"), ["gpt", "mini", "staff"]),
        ("include_model_access_groups=false", ("staff",), ["gpt"]),
        ("include_model_access_groups=true", ("mini",), ["mini"]),
        ("only_model_access_groups=true", ("staff", "mini"), ["staff"]),
        ("only_model_access_groups=true&include_model_access_groups=false", ("staff",), []),
        ("only_model_access_groups=false", ("mini",), ["mini"]),
        ("limit=5&after=x", ("mini",), ["mini"]),
    ],
)
def test_the_query_says_which_names_are_listed(query: str, models: tuple[str, ...], listed: list[str]) -> None:
    assert names(query, *models) == listed


@pytest.mark.parametrize("query", ["return_wildcard_routes=perhaps", "only_model_access_groups=2"])
def test_a_flag_is_true_or_false(query: str) -> None:
    with pytest.raises(Fault) as refused:
        names(query)
    assert (refused.value.kind, refused.value.param) == (Kind.INVALID_REQUEST, query.partition("=")[0])


@given(query=st.binary(max_size=80))
def test_any_query_gives_names_of_the_key_or_a_refusal(query: bytes) -> None:
    key = VirtualKey(id="k", digest=b"k", models=("staff", "open/*"))
    with suppress(Fault):
        assert set(asked_names(HOUSE, key, query)) <= {"gpt", "open/*", "staff"}
