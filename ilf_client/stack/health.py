"""Asks services whether they serve."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from ilf_client.endpoints import Endpoints, Security
from ilf_client.stack.config import SERVICES
from ilf_common.rpc.client import ChannelSettings, open_channel


class Health(Enum):
    """What a service says of itself."""

    SERVING = "serving"
    NOT_SERVING = "not serving"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class HealthProbe:
    """Asks one service, as often as wanted, over one channel."""

    channel: grpc.aio.Channel

    @classmethod
    def at(cls, address: str, security: Security) -> HealthProbe:
        """A probe of the service at an address."""
        return cls(
            open_channel(
                ChannelSettings(
                    address=address,
                    tls_ca_file=security.tls_ca_file,
                    tls_cert_file=security.tls_cert_file,
                    tls_key_file=security.tls_key_file,
                    token_file=security.token_file,
                )
            )
        )

    async def ask(self, timeout: float = 2.0) -> Health:
        """What the service says now."""
        try:
            stub = cast(Any, HealthStub(self.channel))
            response = await stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout)
        except grpc.RpcError:
            return Health.UNREACHABLE
        serving = response.status == health_pb2.HealthCheckResponse.SERVING
        return Health.SERVING if serving else Health.NOT_SERVING


def ask_all(endpoints: Endpoints, security: Security | None = None) -> dict[str, Health]:
    """The health of all five services, asked at once; without `security` the environment says it."""

    async def ask(address: str) -> Health:
        probe = HealthProbe.at(address, security or Security.from_environment())
        try:
            return await probe.ask()
        finally:
            await probe.channel.close()

    async def gather() -> list[Health]:
        return await asyncio.gather(*(ask(getattr(endpoints, service)) for service in SERVICES))

    return dict(zip(SERVICES, asyncio.run(gather()), strict=True))
