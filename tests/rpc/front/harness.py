"""A front of the refinement API with workers on several loopback addresses; all with the real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from ilf.common.v1 import common_pb2
from ilf.pool.v1 import pool_service_pb2 as pool_pb
from ilf.pool.v1 import pool_service_pb2_grpc as pool_grpc
from ilf.refinement.v1 import refinement_service_pb2 as pb
from ilf.refinement.v1 import refinement_service_pb2_grpc as pb_grpc
from prometheus_client import CollectorRegistry

from ilf_common.artifacts import ArtifactStore
from ilf_common.front.api import FrontedApi
from ilf_common.front.run import Front
from ilf_common.front.settings import FrontSettings, front_server
from ilf_common.rpc.client import ChannelSettings, open_channel
from ilf_common.rpc.health import HealthServicer
from ilf_common.rpc.interceptor import CallInterceptor
from ilf_common.rpc.server import bind, new_server
from ilf_common.settings import ServerSettings, StoreSettings
from services.refinement.front import API
from services.refinement.settings import RefinementSettings
from services.refinement.wiring import Refinement, build
from tests.rpc.refinement.harness import CheckpointEngine, publish
from tests.support import free_ports, running_channel


class Addresses:
    """What the name of the workers stands for; set `broken` for a name server that does not answer."""

    def __init__(self) -> None:
        self.now: set[str] = set()
        self.broken = False

    async def __call__(self) -> frozenset[str]:
        if self.broken:
            raise OSError("no name server")
        return frozenset(self.now)


class PoolWorker:
    """One refinement service with fake engines, that can be drained, killed, and started again at its address."""

    def __init__(self, root: Path, host: str, port: int, server: ServerSettings | None = None) -> None:
        self.address = f"{host}:{port}"
        self.engines: dict[str, CheckpointEngine] = {}
        self.prepare: Callable[[CheckpointEngine], None] = lambda engine: None
        self.server_settings = (server or ServerSettings(port=0)).model_copy(update={"host": host, "port": port})
        self.settings = RefinementSettings(
            store=StoreSettings(root=str(root / "artifacts")), state_dir=root / host, models={"base": "base-source"}
        )
        self._server: grpc.aio.Server | None = None
        self.health: HealthServicer | None = None
        self.service: Refinement | None = None

    def _engine(self, source: str) -> CheckpointEngine:
        self.engines[source] = made = CheckpointEngine(source)
        self.prepare(made)
        return made

    @property
    def base(self) -> CheckpointEngine:
        return self.engines["base-source"]

    @property
    def loaded(self) -> set[str]:
        """Names of the checkpoints that engines were started for, by the last part of their paths."""
        return {Path(source).name for source in self.engines if source != "base-source"}

    async def start(self) -> None:
        self.service = build(self.settings, engines=self._engine, registry=CollectorRegistry())
        await self.service.start()
        self._server = new_server(self.server_settings, CallInterceptor("refinement"))
        self.health = HealthServicer(self.service.register(self._server))
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        bind(self._server, self.server_settings)
        await self._server.start()
        await self.health.set_serving(True)

    async def drain(self) -> None:
        """As after SIGTERM: NOT_SERVING, new calls are refused, running ones end."""
        assert self.health is not None and self._server is not None
        await self.health.drain()
        await self._server.stop(20)

    async def kill(self) -> None:
        """Connections break."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None


@dataclass
class Pool:
    """A running front, its workers, and stubs of both of its services."""

    front: Front
    channel: grpc.aio.Channel
    stub: Any
    status: Any
    store: ArtifactStore
    addresses: Addresses
    registry: CollectorRegistry
    workers: list[PoolWorker] = field(default_factory=list)

    async def add(self, worker: PoolWorker) -> None:
        """Starts a worker and puts its address under the name."""
        await worker.start()
        self.addresses.now.add(worker.address)

    async def until(self, condition: Callable[[pool_pb.WatchPoolResponse], bool]) -> pool_pb.WatchPoolResponse:
        """Waits until the pool's own numbers fulfil a condition."""
        async with asyncio.timeout(20):
            async for numbers in self.status.WatchPool(pool_pb.WatchPoolRequest()):
                if condition(numbers):
                    return numbers
        raise AssertionError("the stream ended")

    async def ready(self, count: int) -> None:
        """Waits for so many ready workers."""
        await self.until(lambda numbers: numbers.ready_workers == count)

    def publish(self, key: str, weights: str) -> str:
        """Publishes a checkpoint, and answers its URI."""
        return publish(self.store, key, {"config.json": "{}", "model.safetensors": weights})


@asynccontextmanager
async def running_front(
    root: Path,
    addresses: Addresses,
    *,
    api: FrontedApi = API,
    registry: CollectorRegistry | None = None,
    **changes: Any,
) -> AsyncIterator[Pool]:
    registry = registry or CollectorRegistry()
    settings = FrontSettings(
        **{
            "server": front_server(0, 0),
            "store": StoreSettings(root=str(root / "artifacts")),
            "workers": ChannelSettings(address="workers.example:1"),
            "resolve_seconds": 0.05,
            "wait_seconds": 20.0,
            **changes,
        }
    )
    front = Front(api, settings, resolve=addresses, registry=registry)
    await front.start()
    try:
        async with running_channel(front.register, component="refinement-front") as channel:
            yield Pool(
                front,
                channel,
                pb_grpc.RefinementServiceStub(channel),
                pool_grpc.PoolServiceStub(channel),
                ArtifactStore(settings.store.root),
                addresses,
                registry,
            )
            await front.pool.drain()
    finally:
        await front.stop()


@asynccontextmanager
async def running_pool(root: Path, count: int, **changes: Any) -> AsyncIterator[Pool]:
    """A front with workers on 127.0.0.2, 127.0.0.3, …, the first `count` started and ready."""
    (port,) = free_ports(1)
    workers = [PoolWorker(root, f"127.0.0.{number + 2}", port) for number in range(max(3, count))]
    async with AsyncExitStack() as stack:
        for worker in workers:
            stack.push_async_callback(worker.kill)
        pool = await stack.enter_async_context(running_front(root, Addresses(), **changes))
        pool.workers = workers
        for worker in workers[:count]:
            await pool.add(worker)
        await pool.ready(count)
        yield pool


def batch(count: int, *, model: str = "base", seed: int = 7) -> pb.BatchRefineRequest:
    return pb.BatchRefineRequest(
        model=model,
        items=[
            pb.RefineItem(item_id=f"row-{number}", context=f"text {number}", initial_output="out", feedback="shorter")
            for number in range(count)
        ],
        sampling=common_pb2.SamplingParams(n=2, seed=seed),
    )


def single(*, model: str = "base") -> pb.RefineRequest:
    return pb.RefineRequest(model=model, context="text", initial_output="out", feedback="shorter")


__all__ = [
    "Addresses",
    "ChannelSettings",
    "Pool",
    "PoolWorker",
    "batch",
    "open_channel",
    "running_front",
    "running_pool",
    "single",
]
