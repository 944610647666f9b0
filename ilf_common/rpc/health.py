"""gRPC health of a server: NOT_SERVING until started, while a check fails, and while draining."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from ilf_common.errors import NotFoundError


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Answers for all services of a server at once, and for the server as a whole under the empty name.

    Watch streams end when `drain` is called: left open they would hold a stopping server for its whole grace period.

    Args:
        services: Full gRPC service names.
    """

    def __init__(self, services: Sequence[str]) -> None:
        self._services = frozenset(services) | {""}
        self._serving = False
        self._ended = asyncio.Event()
        self._changed = asyncio.Condition()

    async def set_serving(self, serving: bool) -> None:
        """Changes the status of all services; without effect once draining."""
        if self._ended.is_set() or serving == self._serving:
            return
        async with self._changed:
            self._serving = serving
            self._changed.notify_all()

    async def drain(self) -> None:
        """Turns to NOT_SERVING for good and ends the Watch streams."""
        async with self._changed:
            self._serving = False
            self._ended.set()
            self._changed.notify_all()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        """Status of one service."""
        if request.service not in self._services:
            raise NotFoundError(
                f"No service {request.service!r} here; there are {sorted(self._services - {''})}.",
                resource_type="service",
                resource_name=request.service,
            )
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Status of one service now and after every change, until the server drains."""
        last = None
        while True:
            status = self._status(request.service)
            if status != last:
                yield health_pb2.HealthCheckResponse(status=status)
            if self._ended.is_set():
                return
            last = status
            async with self._changed:
                while self._status(request.service) == last and not self._ended.is_set():
                    await self._changed.wait()

    def _status(self, service: str) -> int:
        if service not in self._services:
            return health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        serving = health_pb2.HealthCheckResponse.SERVING
        return serving if self._serving else health_pb2.HealthCheckResponse.NOT_SERVING
