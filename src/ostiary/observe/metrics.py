"""What is counted: settled records, into plain numbers, at about a microsecond each. It must not label identities.

Labels come from closed sets: names the configuration knows, never what a client wrote. `exposition` shows the counts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias

from ostiary.core.fault import Fault
from ostiary.core.price import PriceState
from ostiary.core.record import Record

BUCKETS = (10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 120_000, 300_000)  # milliseconds
MOST_MODELS = 500  # label values

Labels: TypeAlias = tuple[str, ...]
Reading: TypeAlias = tuple[str, str, Labels, list[tuple[Labels, float]]]  # name, help, label names, rows


class SeriesKey(NamedTuple):
    """What a series is labelled by. Each metric sums over the labels it does not have."""

    route: str
    model: str
    deployment: str
    provider: str
    outcome: str
    status: str
    fault: str


class Series:
    """The counts of one label set."""

    __slots__ = ("cost", "fallbacks", "first", "input", "output", "requests", "total", "unpriced", "upstream")

    def __init__(self) -> None:
        self.requests = self.input = self.output = self.cost = self.unpriced = self.fallbacks = 0
        self.total = [0] * (len(BUCKETS) + 2)  # counts per bucket, and the sum in milliseconds at the end
        self.upstream = [0] * (len(BUCKETS) + 2)
        self.first = [0] * (len(BUCKETS) + 2)


class Tally:
    """Everything counted since the start of the process.

    `gauges` gives readings to be taken at each scrape. `turned_away` counts by kind and status the requests that had no
    caller.
    """

    def __init__(self) -> None:
        self.gauges: Callable[[], Iterable[Reading]] = tuple
        self._series: dict[tuple[object, ...], Series] = {}
        self.turned_away: defaultdict[Labels, int] = defaultdict(int)
        self._models: set[str] = set()

    def settled(self, record: Record) -> None:
        """Count a settled record."""
        key = (record.endpoint, record.model, record.deployment, record.outcome, record.status, record.fault)
        series = self._series.get(key)
        if series is None:
            series = self._new_series(record)
        series.requests += 1
        if not record.deployment:
            return
        series.input += record.usage.input
        series.output += record.usage.output
        series.cost += record.cost
        series.unpriced += record.price is PriceState.UNKNOWN
        series.fallbacks += record.fallbacks
        _observe(series.total, record.ended - record.started)
        _observe(series.upstream, record.upstream_ms)
        if record.first_byte:
            _observe(series.first, record.first_byte - record.started)

    def _new_series(self, record: Record) -> Series:
        """A series for a label set not seen before. Wildcard models are named by clients: past a bound they share."""
        model = record.model if record.deployment else ""
        if model not in self._models and len(self._models) >= MOST_MODELS:
            model = "other"
        self._models.add(model)
        labels = SeriesKey(
            record.endpoint,
            model,
            record.deployment,
            record.provider,
            record.outcome.value,
            str(record.status),
            record.fault,
        )
        series = self._series.setdefault(labels, Series())
        if model == record.model:
            key = (record.endpoint, record.model, record.deployment, record.outcome, record.status, record.fault)
            self._series[key] = series
        return series

    def refused(self, fault: Fault) -> None:
        """Count a request that was turned away before it had a caller."""
        self.turned_away[(fault.kind.value, str(fault.status))] += 1

    def series(self) -> Iterator[tuple[SeriesKey, Series]]:
        """All label sets with their counts."""
        return ((key, series) for key, series in self._series.items() if isinstance(key, SeriesKey))


def _observe(buckets: list[int], milliseconds: int) -> None:
    buckets[bisect_left(BUCKETS, milliseconds)] += 1
    buckets[-1] += milliseconds
