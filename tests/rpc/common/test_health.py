"""Health follows start, checks and drain."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from ilf_common.errors import NotFoundError, UnavailableError
from ilf_common.rpc.client import call
from ilf_common.rpc.server import serve
from ilf_common.settings import ServerSettings
from tests.fakes.demo_service import SERVICE, DemoServicer, send
from tests.rpc.common.test_server_process import free_port

HealthStub: Any = health_pb2_grpc.HealthStub
ReflectionStub: Any = reflection_pb2_grpc.ServerReflectionStub
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Life:
    """A service whose start and health the test decides."""

    def __init__(self) -> None:
        self.may_start = asyncio.Event()
        self.healthy = True
        self.stopped = False

    async def start(self) -> None:
        await self.may_start.wait()

    async def stop(self) -> None:
        self.stopped = True

    async def check(self) -> None:
        if not self.healthy:
            raise UnavailableError("The engine is dead.", reason="ENGINE_DEAD")


@asynccontextmanager
async def serving(life: Life) -> AsyncIterator[grpc.aio.Channel]:
    settings = ServerSettings(port=free_port(), health_check_seconds=0.05, drain_seconds=5)
    running = asyncio.create_task(
        serve(
            "demo",
            settings,
            register=DemoServicer().register,
            start=life.start,
            stop=life.stop,
            check_health=life.check,
        )
    )
    async with grpc.aio.insecure_channel(f"127.0.0.1:{settings.port}") as channel:
        await asyncio.wait_for(channel.channel_ready(), 10)
        yield channel
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, 10)


async def check(channel: grpc.aio.Channel, service: str = "") -> int:
    answer = await call(HealthStub(channel).Check, health_pb2.HealthCheckRequest(service=service), timeout=5)
    return int(answer.status)


async def test_health_is_watched_through_a_whole_life() -> None:
    life = Life()
    async with serving(life) as channel:
        watch = HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == NOT_SERVING
        assert await check(channel) == await check(channel, SERVICE) == NOT_SERVING
        with pytest.raises(UnavailableError) as caught:
            await send(channel, "UnaryUnary", "a")
        assert (caught.value.reason, caught.value.retry_after) == ("STARTING", 1.0)

        life.may_start.set()
        assert (await watch.read()).status == SERVING
        assert await send(channel, "UnaryUnary", "a") == ["a"]

        life.healthy = False
        assert (await watch.read()).status == NOT_SERVING
        life.healthy = True
        assert (await watch.read()).status == SERVING
        with pytest.raises(NotFoundError) as missing:
            await check(channel, "nobody")
        assert missing.value.resource_name == "nobody"
    assert life.stopped


async def test_a_signal_during_the_start_ends_the_process_at_once() -> None:
    life = Life()
    async with serving(life) as channel:
        assert await check(channel) == NOT_SERVING
    assert life.stopped


async def test_reflection_lists_the_services() -> None:
    life = Life()
    life.may_start.set()
    async with serving(life) as channel:
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = ReflectionStub(channel).ServerReflectionInfo(iter([request]))
        names = [service.name async for answer in answers for service in answer.list_services_response.service]
    assert SERVICE in names and "grpc.health.v1.Health" in names
