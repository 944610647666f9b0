"""The access log has a line a call; calls that a machine repeats for ever are written at DEBUG only."""

from __future__ import annotations

import logging
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ilf.keda import externalscaler_pb2, externalscaler_pb2_grpc

from ilf_common.rpc.health import HealthServicer
from ilf_common.settings import ServerSettings
from services.orchestrator.adapters.scaler_server import ScalerServer
from tests.fakes.demo_service import DemoServicer, send
from tests.support import running_channel

HealthStub: Any = health_pb2_grpc.HealthStub
ScalerStub: Any = externalscaler_pb2_grpc.ExternalScalerStub


class Scaler(externalscaler_pb2_grpc.ExternalScalerServicer):
    async def IsActive(self, request: Any, context: Any) -> externalscaler_pb2.IsActiveResponse:
        return externalscaler_pb2.IsActiveResponse(result=True)


def levels(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [record.levelno for record in caplog.records if record.name == "ilf.access"]


async def test_a_users_call_is_written_at_info(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "ilf.access"):
        async with running_channel(DemoServicer().register) as channel:
            await send(channel, "UnaryUnary", "a")
    assert levels(caplog) == [logging.INFO]


async def test_a_health_call_is_written_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    def register(server: grpc.aio.Server) -> list[str]:
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer([]), server)
        return []

    with caplog.at_level(logging.DEBUG, "ilf.access"):
        async with running_channel(register) as channel:
            await HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert levels(caplog) == [logging.DEBUG]


async def test_a_call_of_keda_is_written_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    server = ScalerServer(ServerSettings(port=0), Scaler())
    with caplog.at_level(logging.DEBUG, "ilf.access"):
        port = await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            answer = await ScalerStub(channel).IsActive(externalscaler_pb2.ScaledObjectRef(name="refinement"))
        await server.stop()
    assert answer.result
    assert levels(caplog) == [logging.DEBUG]
