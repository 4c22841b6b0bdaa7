"""Prometheus metrics under the names dashboards of the compatible surface already use. It must not label identities.

A settled record is counted into plain dictionaries, which costs a microsecond or two; the exposition format is made
when somebody scrapes. Labels come from closed sets: names the configuration knows, never what a client wrote.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from ostiary.core.fault import Fault
from ostiary.core.price import PriceState
from ostiary.core.record import Outcome, Record

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)  # seconds
MOST_MODELS = 500  # label values
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_Series = tuple[str, ...]


class Histogram:
    """Counts per bucket and a sum, by label values."""

    __slots__ = ("_counts", "_sums")

    def __init__(self) -> None:
        self._counts: dict[_Series, list[int]] = {}
        self._sums: dict[_Series, float] = {}

    def add(self, series: _Series, seconds: float) -> None:
        """Count one observation."""
        counts = self._counts.get(series)
        if counts is None:
            counts = self._counts[series] = [0] * (len(BUCKETS) + 1)
            self._sums[series] = 0.0
        counts[bisect_left(BUCKETS, seconds)] += 1
        self._sums[series] += seconds

    def family(self, name: str, text: str, labels: tuple[str, ...]) -> Metric:
        """The histogram in the exposition's shape."""
        family = HistogramMetricFamily(name, text, labels=labels)
        for series, counts in self._counts.items():
            running, buckets = 0, []
            for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
                running += count
                buckets.append((bound, running))
            family.add_metric(series, buckets, self._sums[series])
        return family


class Tally(Collector):
    """Everything counted since the start of the process.

    Args:
        gauges: readings taken at each scrape: name -> (help, label names, rows of (label values, number)).
    """

    def __init__(
        self, gauges: Callable[[], Iterable[tuple[str, str, tuple[str, ...], list[tuple[_Series, float]]]]] = tuple
    ) -> None:
        self.gauges = gauges
        self._requests: defaultdict[_Series, int] = defaultdict(int)
        self._tokens: defaultdict[_Series, list[int]] = defaultdict(lambda: [0, 0, 0])
        self._refused: defaultdict[_Series, int] = defaultdict(int)
        self._unpriced: defaultdict[_Series, int] = defaultdict(int)
        self._deployments: defaultdict[_Series, list[int]] = defaultdict(lambda: [0, 0])
        self._fallbacks = 0
        self._models: set[str] = set()
        self._total = Histogram()
        self._upstream = Histogram()
        self._first = Histogram()

    def settled(self, record: Record) -> None:
        """Count a settled record."""
        known = record.deployment != ""
        model = self._label(record.model) if known else ""
        self._requests[(record.endpoint, model, record.outcome.value, str(record.status), record.fault)] += 1
        if not known:
            return
        sums = self._tokens[(model, record.provider)]
        sums[0] += record.usage.input
        sums[1] += record.usage.output
        sums[2] += record.cost
        if record.price is PriceState.UNKNOWN:
            self._unpriced[(model, record.provider)] += 1
        self._fallbacks += record.fallbacks
        self._deployments[(model, record.deployment)][record.outcome is not Outcome.COMPLETED] += 1
        series = (model,)
        self._total.add(series, (record.ended - record.started) / 1000)
        self._upstream.add(series, record.upstream_ms / 1000)
        if record.first_byte:
            self._first.add(series, (record.first_byte - record.started) / 1000)

    def _label(self, model: str) -> str:
        """The model as a label. Wildcard names come from clients: past a bound they share one label."""
        if model in self._models or len(self._models) < MOST_MODELS:
            self._models.add(model)
            return model
        return "other"

    def refused(self, fault: Fault) -> None:
        """Count a request that was turned away before it had a caller."""
        self._refused[(fault.kind.value, str(fault.status))] += 1

    def exposition(self) -> bytes:
        """All metrics in the text format."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterable[Metric]:
        """See `prometheus_client.registry.Collector`."""
        total = CounterMetricFamily(
            "litellm_proxy_total_requests_metric",
            "Settled requests",
            labels=("route", "model", "outcome", "status_code"),
        )
        failed = CounterMetricFamily(
            "litellm_proxy_failed_requests_metric", "Requests not completed",
            labels=("route", "model", "exception_class", "exception_status"),
        )  # fmt: skip
        sums: defaultdict[_Series, int] = defaultdict(int)
        for (route, model, outcome, status, fault), count in self._requests.items():
            sums[(route, model, outcome, status)] += count
            if outcome != Outcome.COMPLETED.value:
                failed.add_metric((route, model, fault or outcome, status), count)
        for series, count in sums.items():
            total.add_metric(series, count)
        yield total
        yield failed
        yield from self._spent()
        yield _counter("ostiary_refused_requests", "Requests without a caller", ("kind", "status"), self._refused)
        yield _counter(
            "ostiary_unknown_price_requests", "Requests whose price is unknown", ("model", "provider"), self._unpriced
        )
        yield from self._answered()
        yield self._total.family("litellm_request_total_latency_metric", "Whole request, seconds", ("model",))
        yield self._upstream.family("litellm_llm_api_latency_metric", "Waiting for providers, seconds", ("model",))
        yield self._first.family(
            "litellm_llm_api_time_to_first_token_metric", "First byte of a stream, seconds", ("model",)
        )
        for name, text, labels, rows in self.gauges():
            gauge = GaugeMetricFamily(name, text, labels=labels)
            for values, number in rows:
                gauge.add_metric(values, number)
            yield gauge

    def _spent(self) -> Iterable[Metric]:
        labels = ("model", "provider")
        names = ("input_tokens", "output_tokens", "total_tokens", "spend")
        families = {name: CounterMetricFamily(f"litellm_{name}_metric", name, labels=labels) for name in names}
        for series, (into, out, cost) in self._tokens.items():
            for name, number in zip(names, (into, out, into + out, cost / 10**9), strict=True):
                families[name].add_metric(series, number)
        yield from families.values()

    def _answered(self) -> Iterable[Metric]:
        labels = ("model", "model_id")
        good = CounterMetricFamily("litellm_deployment_success_responses", "Completed answers", labels=labels)
        bad = CounterMetricFamily("litellm_deployment_failure_responses", "Answers not completed", labels=labels)
        for series, (completed, failed) in self._deployments.items():
            good.add_metric(series, completed)
            bad.add_metric(series, failed)
        yield good
        yield bad
        tried = CounterMetricFamily("litellm_deployment_attempted_fallbacks", "Fallbacks attempted")
        tried.add_metric((), self._fallbacks)
        yield tried


def _counter(name: str, text: str, labels: tuple[str, ...], counts: dict[_Series, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for series, count in counts.items():
        family.add_metric(series, count)
    return family
