"""Which deployments rest, from when, and for how long: the rules of `routing/health.py`, on times given by hand."""

from __future__ import annotations

from typing import Any

import pytest

from ostiary.core.fault import Fault, Kind, Origin
from ostiary.core.snapshot import Deployment, RoutingSettings
from ostiary.gateway.routing.health import LONGEST_REST, Health

HOME = Deployment("a", "gpt", "openai", "gpt", scheme="http", host="a.test", port=80, base_path="")
OTHER = Deployment("b", "gpt", "openai", "gpt", scheme="http", host="b.test", port=80, base_path="")
SETTINGS = RoutingSettings(cooldown_seconds=5.0, allowed_fails=3)
NOW = 1000.0


def fault(kind: Kind = Kind.UPSTREAM_ERROR, **more: Any) -> Fault:
    return Fault(kind, "", origin=Origin.UPSTREAM, **more)


def failed(health: Health, what: Fault, times: int = 1, *, at: float = NOW, alone: bool = False) -> None:
    for _ in range(times):
        health.failed("a", what, at, SETTINGS, alone=alone)


def rests(health: Health, at: float = NOW) -> float:
    """Seconds it still rests, from `at`."""
    return health.rest_of((HOME,), at) or 0.0


def test_a_deployment_nobody_has_tried_is_available() -> None:
    assert Health().available(HOME, NOW)
    assert Health().rest_of((HOME, OTHER), NOW) is None


@pytest.mark.parametrize(
    "what",
    [fault(Kind.UPSTREAM_RATE_LIMIT), fault(Kind.UPSTREAM_AUTH), fault(Kind.UPSTREAM_REJECTED, status=404)],
)
def test_some_failures_rest_a_deployment_at_once(what: Fault) -> None:
    health = Health()
    failed(health, what)
    assert rests(health) == 5.0
    assert not health.available(HOME, NOW + 4.99)
    assert health.available(HOME, NOW + 5.0)


@pytest.mark.parametrize("kind", [Kind.UPSTREAM_ERROR, Kind.CONNECT, Kind.TIMEOUT, Kind.TRUNCATED, Kind.BAD_ANSWER])
def test_others_rest_it_when_there_are_more_than_allowed_in_a_minute(kind: Kind) -> None:
    health = Health()
    failed(health, fault(kind), 3)
    assert health.available(HOME, NOW)
    failed(health, fault(kind))
    assert rests(health) == 5.0


def test_failures_of_the_last_minute_are_forgotten() -> None:
    health = Health()
    failed(health, fault(), 3)
    failed(health, fault(), 3, at=NOW + 60.0)
    assert health.available(HOME, NOW + 60.0)
    assert health.pulse("a").total_failed == 6


def test_more_than_half_of_five_rest_it() -> None:
    health = Health()
    settings = RoutingSettings(cooldown_seconds=5.0, allowed_fails=100)
    for _ in range(2):
        health.succeeded("a", NOW)
    for count in range(3):
        assert health.available(HOME, NOW), count
        health.failed("a", fault(), NOW, settings, alone=False)
    assert not health.available(HOME, NOW)
    assert health.pulse("a").total_succeeded == 2


def test_half_is_not_more_than_half_and_four_are_too_few() -> None:
    health = Health()
    settings = RoutingSettings(allowed_fails=100)
    for _ in range(3):
        health.succeeded("a", NOW)
    for _ in range(3):
        health.failed("a", fault(), NOW, settings, alone=False)
    assert health.available(HOME, NOW)
    fresh = Health()
    for _ in range(4):
        fresh.failed("a", fault(), NOW, settings, alone=False)
    assert fresh.available(HOME, NOW)


def test_a_rate_limit_rests_it_for_as_long_as_the_provider_asked() -> None:
    for asked, rest in ((1.0, 1.0), (30.0, 30.0), (10**6, LONGEST_REST), (0.0, 0.0)):
        health = Health()
        failed(health, fault(Kind.UPSTREAM_RATE_LIMIT, retry_after=asked))
        assert rests(health) == rest


def test_a_later_shorter_rest_does_not_end_a_longer_one() -> None:
    health = Health()
    failed(health, fault(Kind.UPSTREAM_RATE_LIMIT, retry_after=60.0))
    failed(health, fault(Kind.UPSTREAM_RATE_LIMIT, retry_after=1.0))
    assert rests(health) == 60.0


def test_the_only_deployment_of_a_group_rests_only_where_the_provider_said_how_long() -> None:
    health = Health()
    failed(health, fault(), 50, alone=True)
    failed(health, fault(Kind.UPSTREAM_AUTH), alone=True)
    failed(health, fault(Kind.UPSTREAM_RATE_LIMIT), alone=True)
    assert health.available(HOME, NOW)
    failed(health, fault(Kind.UPSTREAM_RATE_LIMIT, retry_after=20.0), alone=True)
    assert rests(health) == 20.0


def test_cooldowns_can_be_switched_off_and_are_counted_all_the_same() -> None:
    health = Health()
    off = RoutingSettings(cooldowns=False)
    for _ in range(10):
        health.failed("a", fault(Kind.UPSTREAM_RATE_LIMIT, retry_after=60.0), NOW, off, alone=False)
    assert health.available(HOME, NOW)
    assert health.pulse("a").total_failed == 10


def test_the_first_to_come_back_is_the_one_to_wait_for() -> None:
    health = Health()
    failed(health, fault(Kind.UPSTREAM_RATE_LIMIT, retry_after=60.0))
    health.failed("b", fault(Kind.UPSTREAM_RATE_LIMIT, retry_after=20.0), NOW, SETTINGS, alone=False)
    assert health.rest_of((HOME, OTHER), NOW + 5.0) == 15.0
    assert health.rest_of((HOME, OTHER), NOW + 30.0) == 30.0
    assert health.rest_of((HOME, OTHER), NOW + 60.0) is None


def test_a_full_deployment_is_not_available() -> None:
    health = Health()
    narrow = Deployment("a", "gpt", "openai", "gpt", "http", "a.test", 80, "", max_parallel=2)
    health.pulse("a").busy = 1
    assert health.available(narrow, NOW)
    health.pulse("a").busy = 2
    assert not health.available(narrow, NOW)
    assert health.available(HOME, NOW)


def test_deployments_that_are_gone_are_forgotten_unless_a_request_is_under_way() -> None:
    health = Health()
    for name in "abc":
        health.pulse(name)
    health.pulse("b").busy = 1
    health.keep(frozenset("c"))
    assert set(health.pulses) == {"b", "c"}
