"""Prometheus metrics of the service."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class PrometheusMetrics:
    """Counts items and tokens by model.

    Args:
        registry: Where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._items = Counter(
            "ilf_refinement_items", "Items answered.", ("model", "call", "outcome"), registry=registry
        )
        self._tokens = Counter("ilf_refinement_tokens", "Tokens worked on.", ("model", "kind"), registry=registry)
        self._running = Gauge("ilf_refinement_running_items", "Items in flight.", ("model",), registry=registry)
        self._queue = Gauge("ilf_refinement_queue_items", "Items in flight, all models.", registry=registry)

    def items_finished(self, model: str, call: str, outcome: str, count: int) -> None:
        """Counts items by how they ended."""
        self._items.labels(model, call, outcome).inc(count)

    def tokens(self, model: str, prompt: int, completion: int) -> None:
        """Counts tokens."""
        self._tokens.labels(model, "prompt").inc(prompt)
        self._tokens.labels(model, "completion").inc(completion)

    def running(self, model: str, items: int) -> None:
        """Shows a model's items in flight."""
        self._running.labels(model).set(items)

    def queue(self, items: int) -> None:
        """Shows all items in flight."""
        self._queue.set(items)

    def forget(self, model: str) -> None:
        """Drops a model's series."""
        self._running.remove_by_labels({"model": model})
        self._tokens.remove_by_labels({"model": model})
        self._items.remove_by_labels({"model": model})
