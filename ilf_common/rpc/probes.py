"""A port for a kubelet's probes: gRPC health alone, in plain text.

A kubelet presents neither a certificate nor a token, so it cannot probe a port with mutual TLS; a program that it would
start in the container instead costs a tenth of a second of a core each time. This port tells SERVING or NOT_SERVING.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ilf_common.errors import FailedPreconditionError
from ilf_common.rpc.health import HealthServicer

LIVENESS = "liveness"
"""Name of a service that serves as long as the process answers: what it waits for outside is no reason to kill it."""


@asynccontextmanager
async def health_port(host: str, port: int, health: HealthServicer) -> AsyncIterator[None]:
    """Answers health at `host:port` meanwhile; port 0 answers nothing.

    Raises:
        FailedPreconditionError: reason PORT_IN_USE.
    """
    if port == 0:
        yield
        return
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)], maximum_concurrent_rpcs=16)
    health_pb2_grpc.add_HealthServicer_to_server(_ProbeServicer(health), server)
    try:
        server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise FailedPreconditionError(
            f"Health cannot be served on {host}:{port}: another program has the port, or the address is not of this "
            "machine. Set server.health_port to a free port, or to 0 for none.",
            reason="PORT_IN_USE",
            metadata={"address": f"{host}:{port}"},
        ) from error
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


class _ProbeServicer(health_pb2_grpc.HealthServicer):
    """Only `Check`, which is what a kubelet calls; without the interceptor, whose metrics are of users' calls."""

    def __init__(self, health: HealthServicer) -> None:
        self._health = health

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        if request.service == LIVENESS:
            return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
        return await self._health.Check(request, context)
