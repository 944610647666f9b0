"""Prometheus metrics of the service."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class PrometheusMetrics:
    """`Metrics` by Prometheus.

    Args:
        registry: Where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._items = Counter(
            "ilf_ranking_items", "Items ranked or compared.", ("ranker", "outcome"), registry=registry
        )
        self._choices = Counter(
            "ilf_ranking_judge_choices",
            "Candidates that single judges put first, by whether the ensemble chose the same.",
            ("same",),
            registry=registry,
        )
        self._queue = Gauge("ilf_ranking_queue_items", "Items at work or waiting.", registry=registry)

    def items_finished(self, ranker: str, results: int, errors: int) -> None:
        """See `Metrics.items_finished`."""
        self._items.labels(ranker, "result").inc(results)
        self._items.labels(ranker, "error").inc(errors)

    def judges_chose(self, same: int, other: int) -> None:
        """See `Metrics.judges_chose`."""
        self._choices.labels("yes").inc(same)
        self._choices.labels("no").inc(other)

    def queued(self, items: int) -> None:
        """See `Metrics.queued`."""
        self._queue.set(items)
