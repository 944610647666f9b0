"""Pools of serving replicas."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cached_property
from typing import TYPE_CHECKING

from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb
from ilf.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceStub

from ilf_client._transport import Transport, collect_pages
from ilf_client.models.pools import Pool

if TYPE_CHECKING:
    from ilf.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceAsyncStub


class AsyncPools:
    """Look at the pools."""

    _transport: Transport

    @cached_property
    def _orchestrator(self) -> OrchestratorServiceAsyncStub:
        return OrchestratorServiceStub(self._transport.channel("orchestrator"))

    async def pools(self, *, timeout: float | None = None) -> AsyncIterator[Pool]:
        """How many replicas each pool wants and has, and why; none where nothing is scaled."""

        async def fetch(token: str) -> pb.ListPoolsResponse:
            return await self._transport.call(
                self._orchestrator.ListPools, pb.ListPoolsRequest(page_token=token), timeout
            )

        async for pool in collect_pages(fetch, "pools", Pool):
            yield pool
