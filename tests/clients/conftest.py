"""One gateway with a deployment of every provider, each of them scripted, for the tests of official clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from house import House, opened


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    """The gateway and its scripted providers."""
    with opened() as made:
        yield made
