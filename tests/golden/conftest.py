"""The one option of the golden tests. It must not be needed to run them."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden-update", action="store_true", help="write the snapshots of tests/golden anew")


@pytest.fixture
def golden_update(request: pytest.FixtureRequest) -> bool:
    """Whether snapshots are written instead of compared."""
    return bool(request.config.getoption("--golden-update", default=False))
