"""The running management API that the tests of this directory talk to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from gatehouse import Clock, Gatehouse, gatehouse, opened_store


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a store just made, to be copied: migrating is for the tests of the store."""
    directory = tmp_path_factory.mktemp("store") / "data"

    async def make() -> None:
        async with opened_store(directory, Clock()):
            pass

    asyncio.run(make())
    return directory


@pytest.fixture
async def house(template: Path, tmp_path: Path) -> AsyncIterator[Gatehouse]:
    async with gatehouse(template, tmp_path) as opened:
        yield opened
