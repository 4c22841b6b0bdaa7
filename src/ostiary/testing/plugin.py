"""Pytest fixtures around a fake provider and a real gateway. It must not be imported outside a test run.

Use it by `pytest_plugins = ["ostiary.testing.plugin"]` in the root `conftest.py`. Override `ostiary_config` to serve
another configuration.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from ostiary.testing.factories import configuration, deployment
from ostiary.testing.gateway import Gateway, running_gateway
from ostiary.testing.provider import FakeProvider, hosted_provider


@pytest.fixture(scope="session")
def ostiary_provider() -> Iterator[FakeProvider]:
    """A fake provider for the whole session; script it by model name."""
    with hosted_provider() as provider:
        yield provider


@pytest.fixture(scope="session")
def ostiary_config(ostiary_provider: FakeProvider) -> dict[str, Any]:
    """The configuration of `ostiary_gateway`: every model name is served by the fake provider."""
    return configuration(deployment("*", ostiary_provider.url))


@pytest.fixture(scope="session")
def ostiary_gateway(ostiary_config: dict[str, Any]) -> Iterator[Gateway]:
    """A running gateway for the whole session."""
    with running_gateway(ostiary_config) as gateway:
        yield gateway


@pytest.fixture
def ostiary_key(ostiary_gateway: Gateway) -> str:
    """A virtual key of the test's own, without limits."""
    return ostiary_gateway.key()


@pytest.fixture
def ostiary_model() -> str:
    """A model name of the test's own."""
    return f"chat-{secrets.token_hex(6)}"
