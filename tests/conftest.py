"""One fake provider and one real gateway for each process of the test run; everything else is the test's own."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from ostiary.testing.factories import configuration, deployment
from ostiary.testing.gateway import Gateway
from ostiary.testing.provider import FakeProvider

pytest_plugins = ["ostiary.testing.plugin"]

METRICS_TOKEN = "metrics-token-of-the-tests"


@pytest.fixture(scope="session")
def ostiary_config(ostiary_provider: FakeProvider) -> dict[str, Any]:
    """`chat-…` keeps its name at the provider (a body may travel untouched), `renamed-…` becomes `up-…`.

    Tests share these deployments, so that nothing here may remember a failure: no retries, no cooldown.
    """
    url = ostiary_provider.url
    return configuration(
        deployment("chat-*", url),
        deployment("renamed-*", url, model="up-*"),
        router_settings={"num_retries": 0, "disable_cooldowns": True},
        ostiary={
            "ping_seconds": 0.3,
            "drain_seconds": 5,
            "ledger": {"flush_seconds": 0.05},
            "metrics": {"enabled": True, "token": METRICS_TOKEN},
        },
    )


@pytest.fixture(scope="session")
def gateway(ostiary_gateway: Gateway) -> Gateway:
    """The shared gateway."""
    return ostiary_gateway


@pytest.fixture(scope="session")
def provider(ostiary_provider: FakeProvider) -> FakeProvider:
    """The shared provider."""
    return ostiary_provider


@pytest.fixture
def key(ostiary_key: str) -> str:
    """A virtual key without limits, of this test only."""
    return ostiary_key


@pytest.fixture
def model(ostiary_model: str) -> str:
    """A model of this test only, with the same name at the provider."""
    return ostiary_model


@pytest.fixture
def renamed() -> tuple[str, str]:
    """A model of this test only: its public name and its name at the provider."""
    mark = secrets.token_hex(6)
    return f"renamed-{mark}", f"up-{mark}"
