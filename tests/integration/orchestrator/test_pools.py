"""A run and its pools: they wake before their stage, and leave their GPUs to training before its job is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb

from ilf_common.rpc.client import ChannelSettings
from services.orchestrator.settings import PoolSettings
from tests.fakes.pool_front import FakeFront
from tests.integration.orchestrator.support import ENDED, Scene, scene, small_spec
from tests.support import running_server


class Cluster:
    """Gives each pool the replicas that it wants, and notes when a number changes.

    Attributes:
        events: "refinement 1" where a pool got so many replicas, "job" where a finetune job was created.
        stuck: Pools whose replicas do not go.
    """

    def __init__(self, here: Scene, fronts: dict[str, FakeFront]) -> None:
        self.here = here
        self.fronts = fronts
        self.events: list[str] = []
        self.why: list[str] = []
        self.stuck: set[str] = set()

    async def follow(self) -> None:
        have = dict.fromkeys(self.fronts, 0)
        for front in self.fronts.values():
            front.say()
        while True:
            if self.here.peers.jobs and "job" not in self.events:
                self.events.append("job")
            for pool in (await self.here.stub.ListPools(pb.ListPoolsRequest())).pools:
                if pool.want != have[pool.name] and not (pool.want == 0 and pool.name in self.stuck):
                    have[pool.name] = pool.want
                    self.events.append(f"{pool.name} {pool.want}")
                    self.why.append(pool.why)
                    self.fronts[pool.name].say(ready_workers=pool.want)
            await asyncio.sleep(0.02)


@asynccontextmanager
async def with_pools(folder: Path, **options: Any) -> AsyncIterator[tuple[Scene, Cluster]]:
    fronts = {name: FakeFront(name) for name in ("refinement", "ranking")}
    async with AsyncExitStack() as stack:
        pools = {}
        for name, front in fronts.items():
            address = await stack.enter_async_context(running_server(front.register))
            pools[name] = PoolSettings(
                front=ChannelSettings(address=address), idle_seconds=600, start_seconds=30, hand_over=True
            )
        here = await stack.enter_async_context(scene(folder, pools=pools, delay=0.3, **options))
        cluster = Cluster(here, fronts)
        following = asyncio.create_task(cluster.follow())
        stack.callback(following.cancel)
        yield here, cluster


async def test_serving_is_gone_before_the_job_is_created_and_comes_back(tmp_path: Path) -> None:
    async with with_pools(tmp_path) as (here, cluster):
        run = await here.end(await here.create(small_spec(here)))
        assert run.state == pb.RUN_STATE_SUCCEEDED
    job = cluster.events.index("job")
    assert cluster.events[0] == "refinement 1"
    assert {"refinement 0", "ranking 0"} <= set(cluster.events[:job])
    assert "refinement 1" in cluster.events[job:]
    assert any(why.startswith(f"run {run.name.removeprefix('runs/')} is to train") for why in cluster.why)


async def test_a_run_says_that_it_waits_for_gpus_and_does_so_only_for_a_time(tmp_path: Path) -> None:
    async with with_pools(tmp_path, hand_over_seconds=2.0) as (here, cluster):
        cluster.stuck.add("ranking")
        run = await here.create(small_spec(here))
        reasons = set()
        async for response in here.stub.WatchRun(pb.WatchRunRequest(name=run.name)):
            run = response.run
            reasons.add((run.waiting.reason, run.waiting.message))
        assert run.state == pb.RUN_STATE_SUCCEEDED
    message = "Serving has not left its GPUs to training yet: ranking (1 ready, 0 needed)"
    assert ("GPU_HAND_OVER", message) in reasons
    assert "job" in cluster.events and "ranking 0" not in cluster.events


async def test_a_restart_while_training_waits_creates_one_job_and_not_before_serving_is_gone(tmp_path: Path) -> None:
    async with with_pools(tmp_path) as (here, cluster):
        cluster.stuck.add("ranking")
        run = await here.create(small_spec(here))
        async for response in here.stub.WatchRun(pb.WatchRunRequest(name=run.name)):
            if response.run.waiting.reason == "GPU_HAND_OVER":
                break
        async with here.restarted():
            async for response in here.stub.WatchRun(pb.WatchRunRequest(name=run.name)):
                if response.run.waiting.reason == "GPU_HAND_OVER":
                    break
            assert not here.peers.jobs
            cluster.stuck.clear()
            run = await here.end(run)
        assert run.state == pb.RUN_STATE_SUCCEEDED
        assert len(here.peers.jobs) == 1
    assert "ranking 0" in cluster.events[: cluster.events.index("job")]


async def test_a_run_that_is_taken_up_again_wakes_its_pools_again(tmp_path: Path) -> None:
    async with with_pools(tmp_path) as (here, cluster):
        run = await here.create(small_spec(here, train=120))
        async with asyncio.timeout(30):
            while not here.peers.calls["BatchRefine"]:
                await asyncio.sleep(0.02)
        async with here.restarted():
            run = await here.end(run)
        assert run.state == pb.RUN_STATE_SUCCEEDED and run.state in ENDED
    assert "refinement 0" in cluster.events[: cluster.events.index("job")]
