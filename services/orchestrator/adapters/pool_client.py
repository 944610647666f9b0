"""The front of a pool, over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc
from ilf.pool.v1 import pool_service_pb2 as pb
from ilf.pool.v1.pool_service_pb2_grpc import PoolServiceStub

from ilf_common.errors import UnavailableError
from ilf_common.rpc.client import stream
from services.orchestrator.pools.models import FrontStatus

_SILENCE_SECONDS = 15.0
"""A front says something at least every 5 s; one that is silent for longer is not there, whatever TCP believes."""


class PoolClient:
    """Implements `pools.ports.PoolFront`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = PoolServiceStub(channel)

    async def watch(self) -> AsyncIterator[FrontStatus]:
        """Its status now and at each change."""
        async with aclosing(stream(self._stub.WatchPool, pb.WatchPoolRequest(), timeout=None)) as responses:
            while True:
                try:
                    response = await asyncio.wait_for(anext(responses), _SILENCE_SECONDS)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise UnavailableError(f"said nothing for {_SILENCE_SECONDS:g} s") from None
                yield FrontStatus(
                    response.queued_items,
                    response.running_items,
                    response.ready_workers,
                    response.finished_items,
                    response.busy_worker_seconds,
                )
