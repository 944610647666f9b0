"""The pools on the Prometheus page, as they are when it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.orchestrator.pools.models import PoolView

_GAUGES: dict[str, tuple[str, Callable[[PoolView], float]]] = {
    "want": ("Replicas that are asked for.", lambda view: view.decision.want),
    "have": ("Replicas that are ready.", lambda view: view.have),
    "backlog": ("Rows of runs and items at the front that are to be worked off.", lambda view: view.backlog),
    "rows": ("Rows of runs that are not with the service yet.", lambda view: view.rows),
    "queued_items": ("Items that wait at the front.", lambda view: view.front.queued_items if view.front else 0),
    "running_items": ("Items that workers have.", lambda view: view.front.running_items if view.front else 0),
    "front_answers": ("1 where the pool's front answers.", lambda view: view.front is not None),
    "items_per_second": ("What one replica works off.", lambda view: view.speed.items_per_second),
    "start_seconds": ("From the wish for a replica to the first.", lambda view: view.speed.start_seconds),
    "max_replicas": ("Most replicas that may be asked for.", lambda view: view.rules.max_replicas),
}


class PoolMetrics(Collector):
    """Gauges `ilf_pool_…` with the label `pool`."""

    def __init__(self, views: Callable[[], Sequence[PoolView]]) -> None:
        self._views = views

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family a gauge."""
        views = self._views()
        for name, (text, value) in _GAUGES.items():
            family = GaugeMetricFamily(f"ilf_pool_{name}", text, labels=["pool"])
            for view in views:
                family.add_metric([view.rules.name], float(value(view)))
            yield family
