"""A door, an application and a server with the edge between them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from edge.raw import App, Doorman, EdgeServer
from ostiary.gateway.edge_rules import EdgeLimits


@pytest.fixture
def door() -> Doorman:
    return Doorman()


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def limits() -> EdgeLimits:
    """Overridden by modules that need other limits."""
    return EdgeLimits(linger_seconds=0.2)


@pytest.fixture
async def server(door: Doorman, app: App, limits: EdgeLimits) -> AsyncIterator[EdgeServer]:
    async with EdgeServer(door, app, limits).running() as running:
        yield running
