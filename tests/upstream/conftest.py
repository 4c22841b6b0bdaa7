"""An upstream client and a scripted provider, on both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop
from scripted_provider import ScriptedProvider

from ostiary.gateway.deadlines import Sweeper
from ostiary.gateway.upstream.pool import Upstream


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test of this folder that awaits runs on the standard loop and on uvloop."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A client that may not go anywhere yet."""
    client = Upstream(Sweeper(asyncio.get_running_loop(), tick=0.02))
    yield client
    await client.close()
    assert client.connections == 0


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    """A provider that does not listen yet."""
    scripted = ScriptedProvider()
    yield scripted
    await scripted.close()
