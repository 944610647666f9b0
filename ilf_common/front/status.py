"""How busy a pool is: for whoever scales it, and as metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from ilf.pool.v1 import pool_service_pb2 as pb
from ilf.pool.v1 import pool_service_pb2_grpc as pb_grpc
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ilf_common.front.line import PoolNumbers

_LEAST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
SERVICE_NAME = pb.DESCRIPTOR.services_by_name["PoolService"].full_name

Numbers = Callable[[], PoolNumbers]


class PoolServicer(pb_grpc.PoolServiceServicer):
    """`ilf.pool.v1.PoolService`.

    Args:
        pool: Its name.
        numbers: Answers the present ones.
    """

    def __init__(self, pool: str, numbers: Numbers) -> None:
        self._pool = pool
        self._numbers = numbers
        self._since = Timestamp()
        self._since.GetCurrentTime()
        self._changed = asyncio.Event()
        self._ended = False

    def changed(self) -> None:
        """The numbers are others now."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def drain(self) -> None:
        """Ends the streams."""
        self._ended = True
        self.changed()

    async def WatchPool(self, request: pb.WatchPoolRequest, context: Any) -> AsyncIterator[pb.WatchPoolResponse]:
        """The numbers now and after changes."""
        while not self._ended:
            changed = self._changed
            yield self._response()
            sent = time.monotonic()
            try:
                await asyncio.wait_for(changed.wait(), _LONGEST_PAUSE_SECONDS)
            except TimeoutError:
                continue
            await asyncio.sleep(max(0.0, sent + _LEAST_PAUSE_SECONDS - time.monotonic()))

    def _response(self) -> pb.WatchPoolResponse:
        numbers = self._numbers()
        return pb.WatchPoolResponse(
            pool=self._pool,
            queued_items=numbers.queued_items,
            running_items=numbers.running_items,
            ready_workers=numbers.ready_workers,
            finished_items=numbers.finished_items,
            busy_worker_seconds=numbers.busy_worker_seconds,
            since=self._since,
        )


class PoolMetrics(Collector):
    """The same numbers for Prometheus, read when they are asked for.

    Args:
        pool: Label of all of them.
        numbers: Answers the present ones.
    """

    def __init__(self, pool: str, numbers: Numbers) -> None:
        self._pool = pool
        self._numbers = numbers

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        numbers = self._numbers()
        for kind, name, text, value in (
            (GaugeMetricFamily, "ilf_front_queued_items", "Items that wait for a worker.", numbers.queued_items),
            (GaugeMetricFamily, "ilf_front_running_items", "Items that workers have.", numbers.running_items),
            (GaugeMetricFamily, "ilf_front_ready_workers", "Workers that may get items.", numbers.ready_workers),
            (CounterMetricFamily, "ilf_front_finished_items", "Items answered.", numbers.finished_items),
            (
                CounterMetricFamily,
                "ilf_front_busy_worker_seconds",
                "Seconds in which a worker had items, summed over workers.",
                numbers.busy_worker_seconds,
            ),
            (
                CounterMetricFamily,
                "ilf_front_queued_item_seconds",
                "Seconds that items have waited for a worker, summed over items.",
                numbers.queued_item_seconds,
            ),
        ):
            family: Any = kind(name, text, labels=("pool",))
            family.add_metric((self._pool,), value)
            yield family
