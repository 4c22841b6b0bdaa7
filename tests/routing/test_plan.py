"""The order of deployments and what follows a failure, with chance written down."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.core.fault import Fault, Kind, Origin, Retry
from ostiary.core.snapshot import EMPTY, Deployment, PolicySnapshot, RoutingSettings
from ostiary.gateway.routing.health import Health
from ostiary.gateway.routing.plan import backoff, fallbacks_for, order, retries_for, upstream_name

NOW = 1000.0
WELL = Health()


def deployment(name: str, **fields: Any) -> Deployment:
    return Deployment(name, "gpt", "openai", "gpt", "http", f"{name}.test", 80, "", **fields)


def names(deployments: list[Deployment]) -> str:
    return "".join(each.id for each in deployments)


def fault(kind: Kind = Kind.UPSTREAM_ERROR, retry: Retry = Retry.SAME, **more: Any) -> Fault:
    return Fault(kind, "", origin=Origin.UPSTREAM, retry=retry, **more)


# --- order ---


@pytest.mark.parametrize(
    ("draws", "expected"),
    [([0.0, 0.0], "abc"), ([0.09, 0.0], "abc"), ([0.1, 0.0], "bac"), ([0.399, 0.999], "bca"), ([0.4, 0.0], "cab"),
     ([0.999, 0.26], "cba")],
)  # fmt: skip
def test_each_comes_first_as_often_as_its_weight_says(draws: list[float], expected: str) -> None:
    three = (deployment("a", weight=1), deployment("b", weight=3), deployment("c", weight=6))
    assert names(order(three, WELL, NOW, iter(draws).__next__)) == expected


def test_the_shares_of_many_draws_are_those_of_the_weights() -> None:
    three = (deployment("a", weight=1), deployment("b", weight=3), deployment("c", weight=6))
    chance = random.Random(7)
    first = Counter(order(three, WELL, NOW, chance.random)[0].id for _ in range(20_000))
    for name, share in (("a", 0.1), ("b", 0.3), ("c", 0.6)):
        assert abs(first[name] / 20_000 - share) < 0.015


def test_one_of_no_weight_comes_only_after_all_others() -> None:
    pair = (deployment("a", weight=0), deployment("b"))
    chance = random.Random(7)
    assert {names(order(pair, WELL, NOW, chance.random)) for _ in range(200)} == {"ba"}
    idle = (deployment("a", weight=0), deployment("b", weight=0))
    assert names(order(idle, WELL, NOW, lambda: 0.0)) == "ba"


def test_a_lower_tier_comes_first_whatever_the_weights() -> None:
    tiers = (deployment("a", order=2, weight=100), deployment("b", order=1), deployment("c", order=2, weight=0))
    assert names(order(tiers, WELL, NOW, lambda: 0.99))[0] == "b"
    assert names(order(tiers, WELL, NOW, lambda: 0.0)) == "bac"


def test_who_rests_is_not_in_the_order_and_one_alone_takes_no_draw() -> None:
    health = Health()
    health.pulse("a").resting_until = NOW + 1
    assert order((deployment("a"),), health, NOW, lambda: pytest.fail("nothing to draw")) == []
    assert names(order((deployment("a"), deployment("b")), health, NOW, lambda: 0.0)) == "b"
    assert names(order((deployment("a"),), health, NOW + 1, lambda: pytest.fail("nothing to draw"))) == "a"


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.booleans()), max_size=6),
    st.lists(st.floats(0, 0.999), min_size=6, max_size=6),
)
def test_an_order_holds_each_available_one_once_tier_by_tier(rows: list[Any], draws: list[float]) -> None:
    health = Health()
    made = []
    for number, (weight, tier, rests) in enumerate(rows):
        made.append(deployment(str(number), weight=weight, order=tier))
        health.pulse(str(number)).resting_until = NOW + 1 if rests else 0.0
    ordered = order(tuple(made), health, NOW, iter(draws).__next__)
    assert sorted(names(ordered)) == sorted(each.id for each, row in zip(made, rows, strict=True) if not row[2])
    assert [each.order for each in ordered] == sorted(each.order for each in ordered)


# --- the provider's name ---


@pytest.mark.parametrize(
    ("public", "upstream", "asked", "name"),
    [
        ("gpt", "gpt-4o", "gpt", "gpt-4o"),
        ("openai/*", "*", "openai/o1", "o1"),
        ("*", "*", "anything/at-all", "anything/at-all"),
        ("a/*", "up-*-v1", "a/x", "up-x-v1"),
        ("*/x-*", "*:*", "b/x-c", "b:c"),
        ("a/*", "fixed", "a/x", "fixed"),
        ("gpt", "up-*", "gpt", "up-*"),
        ("a/*", "*-*", "a/x", "x-*"),
        ("a/*", "*", "other", "*"),
    ],
)
def test_stars_stand_for_what_was_asked(public: str, upstream: str, asked: str, name: str) -> None:
    home = Deployment("d", public, "openai", upstream, "http", "d.test", 80, "")
    assert upstream_name(home, asked) == name


# --- what follows a failure ---


def snapshot(**routing: Any) -> PolicySnapshot:
    return PolicySnapshot(revision=1, groups=EMPTY.groups, routing=RoutingSettings(**routing))


LISTS = {
    "fallbacks": {"a": ("b", "a", "c"), "*": ("z",)},
    "context_window_fallbacks": {"a": ("long",)},
    "content_policy_fallbacks": {"a": ("kind",)},
    "default_fallbacks": ("d",),
}


@pytest.mark.parametrize(
    ("group", "what", "expected"),
    [
        ("a", fault(), ("b", "c")),
        ("x", fault(), ("z",)),
        ("z", fault(), ()),
        ("a", fault(Kind.CONTEXT_WINDOW, Retry.NEVER), ("long",)),
        ("a", fault(Kind.CONTENT_POLICY, Retry.NEVER), ("kind",)),
        ("x", fault(Kind.CONTEXT_WINDOW, Retry.NEVER), ()),
        ("a", fault(Kind.UPSTREAM_REJECTED, Retry.NEVER), ()),
        ("a", fault(Kind.UPSTREAM_AUTH, Retry.NEXT), ("b", "c")),
    ],
)
def test_fallbacks_go_by_the_failure(group: str, what: Fault, expected: tuple[str, ...]) -> None:
    assert fallbacks_for(snapshot(**LISTS), group, what) == expected


@pytest.mark.parametrize(
    ("group", "what", "expected"),
    [
        ("w/one", fault(), ("b",)),
        ("w/own", fault(), ("c",)),
        ("w/grouped", fault(), ("z",)),
        ("other", fault(), ("z",)),
        ("w/one", fault(Kind.CONTEXT_WINDOW, Retry.NEVER), ("long",)),
    ],
)
def test_what_only_a_wildcard_serves_has_its_fallbacks(group: str, what: Fault, expected: tuple[str, ...]) -> None:
    lists = {"w/*": ("b",), "w/own": ("c",), "*": ("z",)}
    routing = RoutingSettings(fallbacks=lists, context_window_fallbacks={"w/*": ("long",)})
    served = (deployment("a"),)
    policy = PolicySnapshot(1, {"w/grouped": served}, (("w/*", served),), routing=routing)
    assert fallbacks_for(policy, group, what) == expected


def test_default_fallbacks_hold_where_nothing_else_is_named_and_the_number_is_capped() -> None:
    assert fallbacks_for(snapshot(default_fallbacks=("d",)), "a", fault()) == ("d",)
    many = snapshot(fallbacks={"a": tuple("bcdefgh")}, max_fallbacks=3)
    assert fallbacks_for(many, "a", fault()) == ("b", "c", "d")


@pytest.mark.parametrize(
    ("settings", "own", "asked", "retries"),
    [
        ({"num_retries": 4}, None, None, 4),
        ({"num_retries": 4}, 1, None, 1),
        ({"num_retries": 4}, 0, None, 0),
        ({"num_retries": 4}, None, 2, 2),
        ({"num_retries": 4}, None, 9, 4),
        ({"num_retries": 4, "retry_policy": {"upstream_error": 7}}, 1, None, 7),
        ({"num_retries": 4, "retry_policy": {"timeout": 7}}, None, None, 4),
        ({"num_retries": 4, "retry_policy": {"upstream_error": 0}}, None, 3, 0),
    ],
)
def test_how_often_is_the_operators_word_and_a_caller_may_only_lower_it(
    settings: dict[str, Any], own: int | None, asked: int | None, retries: int
) -> None:
    assert retries_for(RoutingSettings(**settings), deployment("a", max_retries=own), fault(), asked) == retries


BASE = RoutingSettings(retry_base_seconds=1.0, retry_cap_seconds=8.0)


@pytest.mark.parametrize(("retry", "least", "most"), [(1, 0.5, 1.0), (2, 1.0, 2.0), (4, 4.0, 8.0), (30, 4.0, 8.0)])
def test_pauses_double_up_to_a_cap_with_half_of_them_by_chance(retry: int, least: float, most: float) -> None:
    assert backoff(BASE, retry, fault(), 0.0) == least
    assert backoff(BASE, retry, fault(), 1.0) == most


@given(st.integers(1, 50), st.floats(0, 1), st.one_of(st.none(), st.floats(0, 1000)))
def test_a_pause_is_never_shorter_than_the_provider_asked(retry: int, draw: float, asked: float | None) -> None:
    wait = backoff(BASE, retry, fault(retry_after=asked), draw)
    assert wait >= (asked or 0.0)
    assert wait == asked or wait <= 8.0
