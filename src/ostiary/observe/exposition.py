"""The counts in Prometheus' text format, under names that dashboards of the compatible surface know.

It must not count anything itself. Kept apart from the counting since its library is only needed by who scrapes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from ostiary.core.record import Outcome
from ostiary.observe.metrics import BUCKETS, Labels, Series, SeriesKey, Tally

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def exposition(tally: Tally) -> bytes:
    """All metrics in the text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Counts(tally))
    return generate_latest(registry)


class _Counts(Collector):
    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        rows = list(self._tally.series())
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
        for values, count in self._tally.turned_away.items():
            refused.add_metric(values, count)
        yield refused
        yield _histogram("litellm_request_total_latency_metric", "Whole request, seconds", rows, lambda s: s.total)
        yield _histogram("litellm_llm_api_latency_metric", "Waiting for providers, seconds", rows, lambda s: s.upstream)
        yield _histogram(
            "litellm_llm_api_time_to_first_token_metric", "First byte of a stream, seconds", rows, lambda s: s.first
        )
        for name, text, labels, readings in self._tally.gauges():
            gauge = GaugeMetricFamily(name, text, labels=labels)
            for values, reading in readings:
                gauge.add_metric(values, reading)
            yield gauge


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
