"""Sources that show wrong keys are slowed down, for a minute at most, in bounded memory."""

from __future__ import annotations

import pytest

from ostiary.core.fault import Fault, Kind
from ostiary.gateway.policy.strikes import MOST, SOURCES, WINDOW, Strikes


def test_dos_09_a_source_that_keeps_failing_is_refused_until_its_minute_is_over() -> None:
    strikes = Strikes()
    for number in range(MOST):
        strikes.check("10.0.0.1", number / 100)
        strikes.add("10.0.0.1", number / 100)
    with pytest.raises(Fault) as refused:
        strikes.check("10.0.0.1", 40.0)
    assert refused.value.kind is Kind.RATE_LIMITED
    assert refused.value.retry_after == WINDOW - 40.0
    strikes.check("10.0.0.1", WINDOW)
    strikes.add("10.0.0.1", WINDOW)
    strikes.check("10.0.0.1", WINDOW + 1)


def test_dos_09_a_neighbour_is_not_refused() -> None:
    strikes = Strikes()
    for _ in range(MOST):
        strikes.add("10.0.0.1", 1.0)
    strikes.check("10.0.0.2", 1.0)


def test_dos_09_a_million_sources_take_bounded_memory() -> None:
    strikes = Strikes()
    for number in range(SOURCES + 1000):
        strikes.add(str(number), 1.0)
    assert len(strikes) == SOURCES


def test_dos_09_an_ipv6_host_does_not_start_anew_with_each_of_its_addresses() -> None:
    strikes = Strikes()
    for number in range(MOST):
        strikes.add(f"2001:db8:0:1::{number:x}", 1.0)
    with pytest.raises(Fault):
        strikes.check("2001:db8:0:1:ffff::1", 2.0)
    strikes.check("2001:db8:0:2::1", 2.0)
