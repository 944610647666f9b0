"""Pools over real servers: a front is listened to, people and KEDA are told, and nobody else may ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from ilf.keda import externalscaler_pb2 as keda
from ilf.keda.externalscaler_pb2_grpc import ExternalScalerStub
from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb
from ilf.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceStub
from prometheus_client import generate_latest

from ilf_common.errors import InvalidArgumentError, UnavailableError
from ilf_common.rpc.client import ChannelSettings, call, open_channel, stream
from ilf_common.settings import ServerSettings, StoreSettings
from ilf_common.telemetry import REGISTRY
from services.orchestrator.settings import OrchestratorSettings, PoolSettings
from services.orchestrator.wiring import Orchestrator
from tests.certificates import Authority
from tests.fakes.pool_front import FakeFront
from tests.support import free_ports, running_server

REFINEMENT = keda.ScaledObjectRef(name="workers", namespace="ilf", scalerMetadata={"pool": "refinement"})


class Scene:
    """An orchestrator with one pool, its front, and how KEDA reaches it."""

    def __init__(self, front: FakeFront, stub: Any, keda_channel: ChannelSettings) -> None:
        self.front = front
        self.stub = stub
        self.keda_channel = keda_channel

    async def pool(self) -> pb.Pool:
        pools = (await self.stub.ListPools(pb.ListPoolsRequest())).pools
        assert [pool.name for pool in pools] == ["refinement"]
        return pools[0]

    async def until(self, **wanted: int) -> pb.Pool:
        """The pool once its fields are these."""
        async with asyncio.timeout(10):
            while True:
                pool = await self.pool()
                if all(getattr(pool, name) == value for name, value in wanted.items()):
                    return pool
                await asyncio.sleep(0.05)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Scene]:
    async with opened(tmp_path) as scene:
        yield scene


@asynccontextmanager
async def opened(folder: Path, *, front_address: str = "") -> AsyncIterator[Scene]:
    authority = Authority(folder, "ours")
    certificate, key = authority.issue("scaler")
    (port,) = free_ports(1)
    front = FakeFront()
    async with running_server(front.register) as address:
        reached = ChannelSettings(address=front_address or address)
        pool = PoolSettings(front=reached, max_replicas=4, target_seconds=10, idle_seconds=0.5)
        built = Orchestrator(
            OrchestratorSettings(
                store=StoreSettings(root=str(folder / "store")),
                state_dir=folder / "state",
                pools={"refinement": pool},
                scaler=ServerSettings(
                    port=port, tls_cert_file=certificate, tls_key_file=key, tls_client_ca_file=authority.file
                ),
            )
        )
        await built.start()
        keda_channel = ChannelSettings(f"127.0.0.1:{port}", authority.file, *authority.issue("keda"))
        try:
            async with (
                running_server(built.register, component="orchestrator") as own,
                grpc.aio.insecure_channel(own) as channel,
            ):
                yield Scene(front, OrchestratorServiceStub(channel), keda_channel)
        finally:
            await built.drain()
            await built.stop()


async def test_what_lies_at_the_front_is_seen_and_explained(here: Scene) -> None:
    here.front.say(queued_items=15, running_items=10, ready_workers=1, finished_items=50, busy_worker_seconds=25.0)
    pool = await here.until(want=2, have=1)
    assert (pool.backlog, pool.queued_items, pool.running_items, pool.rows) == (25, 15, 10, 0)
    assert (pool.items_per_second, pool.rate_measured, pool.start_seconds, pool.start_measured) == (
        2.0,
        True,
        60,
        False,
    )
    assert pool.why == "25 items at the front at 2 items/s a replica"
    assert pool.since.ToDatetime().year > 2000 and pool.front_answers


async def test_keda_is_told_at_once_and_counts_replicas(here: Scene) -> None:
    async with open_channel(here.keda_channel) as channel:
        stub = ExternalScalerStub(channel)
        pushed = stream(stub.StreamIsActive, REFINEMENT, timeout=30)
        assert not (await anext(pushed)).result
        begin = asyncio.get_running_loop().time()
        here.front.say(queued_items=25)
        assert (await anext(pushed)).result
        assert asyncio.get_running_loop().time() - begin < 1.0
        assert (await call(stub.IsActive, REFINEMENT, timeout=5)).result
        spec = (await call(stub.GetMetricSpec, REFINEMENT, timeout=5)).metricSpecs[0]
        assert (spec.metricName, spec.targetSize, spec.targetSizeFloat) == ("ilf-refinement-replicas", 1, 1.0)
        request = keda.GetMetricsRequest(scaledObjectRef=REFINEMENT, metricName=spec.metricName)
        value = (await call(stub.GetMetrics, request, timeout=5)).metricValues[0]
        assert (value.metricName, value.metricValue, value.metricValueFloat) == (spec.metricName, 3, 3.0)
        here.front.say()
        assert not (await anext(pushed)).result
        await pushed.aclose()


async def test_a_pool_that_is_not_there_is_named(here: Scene) -> None:
    async with open_channel(here.keda_channel) as channel:
        wrong = keda.ScaledObjectRef(scalerMetadata={"pool": "refinment"})
        with pytest.raises(
            InvalidArgumentError, match="'refinment' is no pool of this orchestrator; it has: refinement"
        ):
            await call(ExternalScalerStub(channel).IsActive, wrong, timeout=5)


async def test_only_who_shows_a_certificate_of_the_authority_may_ask(here: Scene, tmp_path: Path) -> None:
    foreign = Authority(tmp_path, "foreign").issue("stranger")
    known = here.keda_channel
    strangers = [
        ChannelSettings(known.address),
        ChannelSettings(known.address, known.tls_ca_file),
        ChannelSettings(known.address, known.tls_ca_file, *foreign),
    ]
    for stranger in strangers:
        async with open_channel(stranger) as channel:
            with pytest.raises(UnavailableError):
                await call(ExternalScalerStub(channel).IsActive, REFINEMENT, timeout=5)


async def test_the_metrics_page_shows_the_pools(here: Scene) -> None:
    here.front.say(queued_items=25, ready_workers=1)
    await here.until(want=3, have=1)
    page = generate_latest(REGISTRY).decode()
    for line in ("want", 3.0), ("have", 1.0), ("backlog", 25.0), ("front_answers", 1.0), ("items_per_second", 1.0):
        assert f'ilf_pool_{line[0]}{{pool="refinement"}} {line[1]}' in page


async def test_before_its_front_has_answered_a_pool_is_left_as_it_is(tmp_path: Path) -> None:
    async with opened(tmp_path, front_address="127.0.0.1:1") as here, open_channel(here.keda_channel) as channel:
        stub = ExternalScalerStub(channel)
        with pytest.raises(UnavailableError, match="The front of pool refinement has not answered yet"):
            await call(stub.IsActive, REFINEMENT, timeout=5)
        assert (await call(stub.GetMetricSpec, REFINEMENT, timeout=5)).metricSpecs
