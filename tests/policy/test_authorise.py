"""What a key may use. A name is allowed by the key's own words, or not at all."""

from __future__ import annotations

import time
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary.core.fault import Fault, Kind
from ostiary.core.key import VirtualKey
from ostiary.core.operation import Endpoint, Operation
from ostiary.core.snapshot import Deployment, PolicySnapshot
from ostiary.core.wildcard import matched
from ostiary.gateway.policy.authorise import find_group, listed, may_route, may_use, resolve, usable


def deployment(name: str, home: str = "") -> Deployment:
    home = home or f"id-{name}"
    return Deployment(home, name, "openai", name, scheme="http", host="h.test", port=80, base_path="/v1")


def snapshot(*names: str, **fields: Any) -> PolicySnapshot:
    made = [deployment(name) for name in names]
    return PolicySnapshot(
        revision=1,
        groups=MappingProxyType({each.model_name: (each,) for each in made if "*" not in each.model_name}),
        patterns=tuple((each.model_name, (each,)) for each in made if "*" in each.model_name),
        deployments=MappingProxyType({each.id: each for each in made}),
        **fields,
    )


def key(*models: str, **fields: Any) -> VirtualKey:
    return VirtualKey(id="k", digest=b"k", models=models, **fields)


HOUSE = snapshot(
    "gpt", "gpt-mini", "secret", "openai/*", "b*-x",
    aliases={"nick": "gpt", "cover": "secret"},
    hidden=frozenset({"secret", "cover"}),
    access_groups={"staff": frozenset({"gpt", "openai/o1"}), "all": frozenset({"secret"})},
)  # fmt: skip


def served(who: VirtualKey, model: str, house: PolicySnapshot = HOUSE) -> str:
    """The group that serves, or the kind of the refusal."""
    try:
        group, deployments = resolve(house, who, model)
    except Fault as fault:
        return fault.kind.value
    assert deployments
    return group


# --- which models ---


@pytest.mark.parametrize(
    ("models", "asked", "outcome"),
    [
        ((), "gpt", "gpt"),
        (("gpt",), "gpt", "gpt"),
        (("gpt",), "secret", "model_denied"),
        (("gpt",), "nobody", "unknown_model"),
        (("gpt*",), "gpt-mini", "gpt-mini"),
        (("*",), "secret", "secret"),
        (("openai/*",), "openai/o1", "openai/o1"),
        (("openai/*",), "gpt", "model_denied"),
        (("openai/o1",), "openai/o1", "openai/o1"),
        (("openai/o1",), "openai/o2", "model_denied"),
        (("all-proxy-models",), "secret", "secret"),
        (("no-default-models",), "gpt", "model_denied"),
        (("all-team-models",), "gpt", "model_denied"),
        (("staff",), "gpt", "gpt"),
        (("staff",), "openai/o1", "openai/o1"),
        (("staff",), "gpt-mini", "model_denied"),
        (("staff",), "staff", "unknown_model"),
        (("nick",), "nick", "gpt"),
        (("gpt",), "nick", "gpt"),
        (("gpt",), "cover", "model_denied"),
        (("secret",), "secret", "secret"),
    ],
)
def test_aig_04_a_key_reaches_what_its_list_says(models: tuple[str, ...], asked: str, outcome: str) -> None:
    assert served(key(*models), asked) == outcome


@pytest.mark.parametrize(
    "asked",
    ["GPT", "Gpt", "gpt ", " gpt", "gpt\t", "gpt\n", "gpt\x00", "g\u0440t", "\uff47\uff50\uff54", "gpt/", "./gpt",
     "gpt\u200b", "openai/gpt ", "gp", "gptx", "secre", "ecret", "models/gpt", "gpt,secret",
     "gpt-mini\r\n", "[g]pt", "gp?", ""],
)  # fmt: skip
def test_aig_04_no_other_spelling_is_the_name(asked: str) -> None:
    house = snapshot("gpt", "gpt-mini", "secret", aliases={"nick": "gpt"})
    assert served(key(), asked, house) == "unknown_model"
    assert not may_use(house, key("gpt", "gpt-mini"), asked)


@pytest.mark.parametrize("allowed", ["[g]pt", "gp?", "g[!x]t", "[a-z]*", "g?*"])
def test_aig_04_only_a_star_is_a_wildcard(allowed: str) -> None:
    assert served(key(allowed), "gpt") == "model_denied"
    assert may_use(HOUSE, key(allowed), allowed)


@pytest.mark.parametrize("special", ["no-default-models", "all-team-models"])
def test_aig_04_a_special_name_grants_not_even_itself(special: str) -> None:
    assert served(key(special), special, snapshot("*")) == "model_denied"


def test_aig_04_a_keys_own_alias_leads_only_where_it_may_go() -> None:
    assert served(key("gpt", aliases=(("mine", "gpt"),)), "mine") == "gpt"
    assert served(key("gpt", aliases=(("mine", "secret"),)), "mine") == "model_denied"
    assert served(key("mine", aliases=(("mine", "secret"),)), "mine") == "model_denied"
    assert served(key("gpt", aliases=(("gpt", "secret"),)), "gpt") == "model_denied"
    assert served(key(aliases=(("mine", "nick"),)), "mine") == "gpt"


def test_aig_04_a_deployment_asked_for_by_its_id_counts_as_its_group() -> None:
    assert served(key(), "id-gpt") == "gpt"
    assert served(key("gpt"), "id-gpt") == "gpt"
    assert served(key("gpt"), "id-secret") == "model_denied"
    assert served(key("id-gpt"), "id-gpt") == "gpt"


def test_the_administrator_may_use_everything() -> None:
    assert served(key("no-default-models", admin=True), "secret") == "secret"


def test_an_unknown_model_is_answered_with_what_the_key_may_use() -> None:
    with pytest.raises(Fault) as fault:
        resolve(HOUSE, key("gpt", "nick", "secret"), "nobody")
    assert fault.value.public == "there is no such model. This key can access: gpt, nick"
    many = snapshot(*(f"m{number:03}" for number in range(60)))
    with pytest.raises(Fault) as fault:
        resolve(many, key(), "x")
    assert fault.value.public.endswith("m049, and 10 more")
    with pytest.raises(Fault, match="unknown_model") as fault:
        resolve(many, key("no-default-models"), "x")
    assert fault.value.public.endswith("access: no models")


def test_a_list_holds_what_may_be_used_and_hides_what_is_hidden() -> None:
    assert list(listed(HOUSE, key())) == ["gpt", "gpt-mini", "nick", "openai/*", "b*-x"]
    assert list(listed(HOUSE, key("gpt"))) == ["gpt", "nick"]
    assert list(listed(HOUSE, key("secret"))) == []
    assert list(listed(HOUSE, key("openai/o1"))) == ["openai/o1"]
    assert list(listed(HOUSE, key("staff"))) == ["gpt", "nick"]
    assert list(listed(HOUSE, key("gpt", aliases=(("mine", "gpt"), ("not", "secret"))))) == ["gpt", "nick", "mine"]
    assert list(listed(HOUSE, key("no-default-models"))) == []


NAMES = st.sampled_from(
    ["gpt", "gpt-mini", "secret", "nick", "cover", "openai/o1", "staff", "id-gpt", "x", "*", "openai/*"]
)


@given(st.lists(NAMES, min_size=1, max_size=3), NAMES)
def test_aig_04_what_is_listed_is_served_and_what_is_served_is_allowed(models: list[str], asked: str) -> None:
    who = key(*models)
    for name in listed(HOUSE, who):
        if "*" not in name:
            assert served(who, name) == resolve(HOUSE, key(), name)[0]
    group = served(who, asked)
    if group in ("model_denied", "unknown_model"):
        return
    assert may_use(HOUSE, who, group) or may_use(HOUSE, who, asked)


# --- patterns ---

PATTERN = st.text("ab*/", max_size=8)
NAME = st.text("ab/", max_size=10)


@settings(max_examples=500)
@given(PATTERN, NAME)
def test_a_pattern_matches_what_a_reference_matches_and_its_stars_rebuild_the_name(pattern: str, name: str) -> None:
    stars = matched(pattern, name)
    assert (stars is not None) == fnmatchcase(name, pattern)
    if stars is not None:
        pieces = pattern.split("*")
        assert len(stars) == len(pieces) - 1
        rebuilt = pieces[0] + "".join(star + piece for star, piece in zip(stars, pieces[1:], strict=True))
        assert rebuilt == name


@given(PATTERN, NAME)
def test_all_stars_but_the_last_take_as_little_as_they_can(pattern: str, name: str) -> None:
    stars = matched(pattern, name)
    if stars is None or len(stars) < 2:
        return
    pieces = pattern.split("*")
    for index, star in enumerate(stars[:-1]):
        assert pieces[index + 1] not in star or not pieces[index + 1] or star.find(pieces[index + 1]) < 0


@settings(deadline=None)
@given(PATTERN, NAME)
def test_a_keys_patterns_match_like_those_of_the_configuration(pattern: str, name: str) -> None:
    if "*" in pattern:
        assert may_use(HOUSE, key(pattern), name) == (matched(pattern, name) is not None)


HOSTILE = [
    ("*a" * 200 + "b", "a" * 20_000),
    ("a*" * 200, "a" * 20_000),
    ("*" * 5_000, "a" * 20_000),
    ("*" * 5_000 + "b", "a" * 20_000),
    ("*ab" * 500 + "*", "a" * 20_000),
    ("a" * 10_000 + "*", "a" * 20_000),
]


@pytest.mark.parametrize(("pattern", "name"), HOSTILE)
def test_dos_08_a_hostile_pattern_takes_no_time(pattern: str, name: str) -> None:
    began = time.perf_counter()
    matched(pattern, name)
    assert time.perf_counter() - began < 0.05
    began = time.perf_counter()
    may_use(HOUSE, key(pattern), name)
    assert time.perf_counter() - began < 0.05


def test_dos_08_a_name_of_any_length_matches_no_pattern() -> None:
    assert find_group(snapshot("*"), "a" * 512)
    assert find_group(snapshot("*"), "a" * 513) == ()


# --- the key itself, and its routes ---


def test_a_blocked_key_and_an_expired_one_are_told_apart() -> None:
    usable(key(expires=10.0), 9.99)
    for who, kind in ((key(blocked=True), Kind.BLOCKED_KEY), (key(expires=10.0), Kind.EXPIRED_KEY)):
        with pytest.raises(Fault) as fault:
            usable(who, 10.0)
        assert (fault.value.kind, fault.value.status) == (kind, 401)


CHAT = Endpoint("chat.completions", Operation.CHAT, "POST", "/chat/completions")


@pytest.mark.parametrize(
    ("routes", "passes"),
    [
        ((), True),
        (("/chat/completions",), True),
        (("/v1/chat/completions",), True),
        (("/v1/chat/*",), True),
        (("/chat*",), True),
        (("llm_api_routes",), True),
        (("openai_routes",), True),
        (("/*",), True),
        (("*",), True),
        (("/embeddings", "/v1/chat/completions"), True),
        (("/v1/embeddings",), False),
        (("/v1/chat",), False),
        (("/V1/CHAT/COMPLETIONS",), False),
        (("/v1/chat/completions/",), False),
        (("chat/completions",), False),
        (("management_routes", "info_routes"), False),
        (("/key/*",), False),
    ],
)
def test_a_key_passes_the_routes_it_names(routes: tuple[str, ...], passes: bool) -> None:
    who = key(allowed_routes=routes)
    if passes:
        may_route(who, CHAT)
        return
    with pytest.raises(Fault) as fault:
        may_route(who, CHAT)
    assert (fault.value.kind, fault.value.status) == (Kind.ROUTE_DENIED, 403)
    may_route(key(allowed_routes=routes, admin=True), CHAT)
