"""Prometheus metrics under the names dashboards of the compatible surface already use. It must not label identities.

A settled record is counted into plain numbers, which costs about a microsecond; the exposition format is made when
somebody scrapes. Labels come from closed sets: names the configuration knows, never what a client wrote.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from ostiary.core.fault import Fault
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record

BUCKETS = (10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 120_000, 300_000)  # milliseconds
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
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


class Tally(Collector):
    """Everything counted since the start of the process. `gauges` gives readings to be taken at each scrape."""

    def __init__(self) -> None:
        self.gauges: Callable[[], Iterable[Reading]] = tuple
        self._series: dict[tuple[object, ...], Series] = {}
        self._refused: defaultdict[Labels, int] = defaultdict(int)
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
        self._refused[(fault.kind.value, str(fault.status))] += 1

    def exposition(self) -> bytes:
        """All metrics in the text format."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        rows = [(key, series) for key, series in self._series.items() if isinstance(key, SeriesKey)]
        counters: tuple[tuple[str, str, Labels, Callable[[SeriesKey, Series], float]], ...] = (
            ("litellm_proxy_total_requests_metric", "Settled requests", ("route", "model", "outcome", "status"),
             lambda _, s: s.requests),
            ("litellm_proxy_failed_requests_metric", "Requests not completed", ("route", "model", "fault", "status"),
             lambda k, s: s.requests if k.outcome != Outcome.COMPLETED.value else 0),
            ("litellm_spend_metric", "Dollars spent", ("model", "provider"), lambda _, s: s.cost / 10**9),
            ("litellm_input_tokens_metric", "Tokens in", ("model", "provider"), lambda _, s: s.input),
            ("litellm_output_tokens_metric", "Tokens out", ("model", "provider"), lambda _, s: s.output),
            ("litellm_total_tokens_metric", "Tokens", ("model", "provider"), lambda _, s: s.input + s.output),
            ("ostiary_unknown_price_requests", "Requests of unknown price", ("model", "provider"),
             lambda _, s: s.unpriced),
            ("litellm_deployment_success_responses", "Completed answers", ("model", "deployment"),
             lambda k, s: s.requests if k.deployment and k.outcome == Outcome.COMPLETED.value else 0),
            ("litellm_deployment_failure_responses", "Answers not completed", ("model", "deployment"),
             lambda k, s: s.requests if k.deployment and k.outcome != Outcome.COMPLETED.value else 0),
            ("litellm_deployment_fallbacks", "Fallbacks taken", ("model",), lambda _, s: s.fallbacks),
        )  # fmt: skip
        for name, text, labels, number in counters:
            yield _counter(name, text, labels, rows, number)
        refused = CounterMetricFamily(
            "ostiary_refused_requests", "Requests without a caller", labels=("kind", "status")
        )
        for values, count in self._refused.items():
            refused.add_metric(values, count)
        yield refused
        yield _histogram("litellm_request_total_latency_metric", "Whole request, seconds", rows, lambda s: s.total)
        yield _histogram("litellm_llm_api_latency_metric", "Waiting for providers, seconds", rows, lambda s: s.upstream)
        yield _histogram(
            "litellm_llm_api_time_to_first_token_metric", "First byte of a stream, seconds", rows, lambda s: s.first
        )
        for name, text, labels, readings in self.gauges():
            gauge = GaugeMetricFamily(name, text, labels=labels)
            for values, reading in readings:
                gauge.add_metric(values, reading)
            yield gauge


def _observe(buckets: list[int], milliseconds: int) -> None:
    buckets[bisect_left(BUCKETS, milliseconds)] += 1
    buckets[-1] += milliseconds


def _counter(
    name: str,
    text: str,
    labels: Labels,
    rows: list[tuple[SeriesKey, Series]],
    number: Callable[[SeriesKey, Series], float],
) -> Metric:
    sums: defaultdict[Labels, float] = defaultdict(float)
    for key, series in rows:
        value = number(key, series)
        if value:
            sums[tuple(str(getattr(key, label)) for label in labels)] += value
    family = CounterMetricFamily(name, text, labels=_public(labels))
    for values, value in sums.items():
        family.add_metric(values, value)
    return family


def _histogram(
    name: str, text: str, rows: list[tuple[SeriesKey, Series]], buckets_of: Callable[[Series], list[int]]
) -> Metric:
    sums: dict[str, list[int]] = {}
    for key, series in rows:
        buckets = buckets_of(series)
        if any(buckets[:-1]):
            total = sums.setdefault(key.model, [0] * len(buckets))
            sums[key.model] = [one + other for one, other in zip(total, buckets, strict=True)]
    family = HistogramMetricFamily(name, text, labels=("model",))
    bounds = (*(str(bound / 1000) for bound in BUCKETS), "+Inf")
    for model, total in sums.items():
        running, shown = 0, []
        for bound, count in zip(bounds, total[:-1], strict=True):
            running += count
            shown.append((bound, running))
        family.add_metric((model,), shown, total[-1] / 1000)
    return family


def _public(labels: Labels) -> Labels:
    """The label names that dashboards know."""
    known = {"status": "status_code", "deployment": "model_id", "fault": "exception_class"}
    return tuple(known.get(label, label) for label in labels)
