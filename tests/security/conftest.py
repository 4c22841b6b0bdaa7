"""The world of attacks on requests: one model for everybody, one for some, and an attacker who waits for visitors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ostiary.testing.factories import configuration, deployment
from ostiary.testing.gateway import Gateway, running_gateway
from ostiary.testing.provider import FakeProvider, hosted_provider

pytest.register_assert_rewrite("kit_requests", "kit_worlds")


@pytest.fixture(scope="module")
def attacker() -> Iterator[FakeProvider]:
    """Where the attacker wants the requests to go. Nothing may ever connect."""
    with hosted_provider() as listener:
        yield listener
        assert listener.connections == 0


@pytest.fixture(scope="module")
def door(provider: FakeProvider) -> Iterator[Gateway]:
    """Two models, `cheap` for everybody, `secret` for some; `cheap` falls back on `secret`."""
    url = provider.url
    rows = [
        deployment("cheap", url, model="u-cheap", info={"access_groups": ["small"]}),
        deployment("secret", url, model="u-secret", info={"id": "the-secret-one"}),
        deployment("family/*", url, model="u-family-*"),
    ]
    router = {
        "fallbacks": [{"cheap": ["secret"]}],
        "num_retries": 0,
        "disable_cooldowns": True,
        "model_group_alias": {"nickname": "secret"},
    }
    with running_gateway(configuration(*rows, router_settings=router)) as gateway:
        yield gateway


@pytest.fixture
def limited(door: Gateway) -> str:
    """A key for `cheap` alone."""
    return door.key(models=["cheap"])
