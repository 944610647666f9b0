"""A pool's front that says what a test wants it to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from ilf.pool.v1 import pool_service_pb2 as pb
from ilf.pool.v1.pool_service_pb2_grpc import PoolServiceServicer, add_PoolServiceServicer_to_server


class FakeFront(PoolServiceServicer):
    """`say` changes what all watchers are told."""

    def __init__(self, pool: str = "refinement") -> None:
        self._status = pb.WatchPoolResponse(pool=pool)
        self._changed = asyncio.Event()

    def say(self, **fields: Any) -> None:
        self._status = pb.WatchPoolResponse(pool=self._status.pool, **fields)
        self._changed.set()
        self._changed = asyncio.Event()

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        add_PoolServiceServicer_to_server(self, server)
        return [pb.DESCRIPTOR.services_by_name["PoolService"].full_name]

    async def WatchPool(self, request: Any, context: Any) -> AsyncIterator[pb.WatchPoolResponse]:
        while True:
            changed = self._changed
            yield self._status
            await changed.wait()
