"""kill -9 at every stage boundary and in the middle of each stage: nothing lost, nothing twice, equal bytes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb

from tests.crash.orchestrator.support import Cluster

pytestmark = pytest.mark.crash

STAGES = ("generate", "feedback", "refine", "rank", "select", "evaluate")
SHARD_ROWS, TRAIN, TEST = 8, 96, 32


@dataclass(frozen=True)
class Moment:
    """A moment of a run, seen from the files that it has made: after a part, a manifest or a job."""

    iteration: int
    stage: str
    what: str

    def reached(self, folder: Path) -> bool:
        stage = folder / f"it-{self.iteration}" / self.stage
        if self.what == "middle":
            return (stage / ".part-00001.json").exists() or (stage / "_MANIFEST.json").exists()
        return (stage / "_MANIFEST.json").exists()

    def __str__(self) -> str:
        return f"it-{self.iteration}-{self.stage}-{self.what}"


def moments(iteration: int) -> list[Moment]:
    found = []
    for stage in STAGES[:-1]:
        found += [Moment(iteration, stage, "middle"), Moment(iteration, stage, "end")]
    found += [Moment(iteration, "finetune-data", "end"), Moment(iteration, "checkpoint", "end")]
    return [*found, Moment(iteration, "evaluate", "middle"), Moment(iteration, "evaluate", "end")]


EVERY_MOMENT = [
    Moment(1, "input", "middle"),
    Moment(0, "evaluate", "middle"),
    Moment(0, "evaluate", "end"),
    *moments(1),
    *moments(2),
]
DEFAULT_MOMENTS = [Moment(0, "evaluate", "middle"), *moments(1)]


def write(cluster: Cluster, name: str, rows: Sequence[dict[str, Any]]) -> str:
    path = cluster.store / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"data/{name}"


def spec_of(cluster: Cluster, iterations: int) -> dict[str, Any]:
    train = [{"id": f"a{n}", "context": f"train context {n}", "reference": f"r{n}"} for n in range(TRAIN)]
    train[9]["context"] += " POISON-refine"
    test = [{"id": f"b{n}", "context": f"test context {n}", "reference": f"r{n}"} for n in range(TEST)]
    return {
        "dataset": {"train_uri": write(cluster, "train.jsonl", train), "test_uri": write(cluster, "test.jsonl", test)},
        "iterations": iterations,
        "seed": 11,
        "shard_rows": SHARD_ROWS,
        "policy": "base",
        "generate": {"template": {"name": "policy", "text": "{context}"}},
        "feedback": {"source": "SOURCE_PLUGIN", "plugin_address": cluster.peers_address},
        "refine": {"refiner": "refiner", "sampling": {"n": 2}},
        "select": {"method": "METHOD_SOFTMAX", "beta": 2.0},
        "evaluate": {"plugin_address": cluster.peers_address, "nll": True, "win_rate": True},
    }


@asynccontextmanager
async def cluster_of(folder: Path, delay: float = 0.02) -> AsyncIterator[Cluster]:
    cluster = Cluster(folder, delay)
    try:
        await cluster.start_peers()
        await cluster.start_orchestrator()
        yield cluster
    finally:
        await cluster.stop()


async def check_against_calm_run(cluster: Cluster, run_id: str, iterations: int) -> None:
    """The killed run ended well and left the very bytes of a run that nothing disturbed."""
    run = await cluster.end(run_id)
    assert run.state == pb.RUN_STATE_SUCCEEDED, run.error
    await cluster.create(spec_of(cluster, iterations), "calm")
    calm = await cluster.end("calm")
    assert calm.state == pb.RUN_STATE_SUCCEEDED, calm.error
    killed, undisturbed = cluster.parts(run_id), cluster.parts("calm")
    assert killed.keys() == undisturbed.keys()
    assert [name for name in killed if killed[name] != undisturbed[name]] == []
    for iteration in range(iterations + 1):
        assert run.iterations[iteration].metrics == calm.iterations[iteration].metrics
    ids = [
        row["item_id"]
        for iteration in range(1, iterations + 1)
        for part in sorted((cluster.store / "runs" / run_id / f"it-{iteration}" / "select").glob("part-*.parquet"))
        for row in parquet.read_table(part, columns=["item_id"]).to_pylist()
    ]
    assert sorted(ids) == sorted(f"a{n}" for n in range(TRAIN))


async def kill_at(cluster: Cluster, run_id: str, moment: Moment) -> None:
    folder = cluster.store / "runs" / run_id
    await cluster.until(lambda: moment.reached(folder))
    await cluster.kill_orchestrator()


async def test_a_run_that_is_killed_at_every_stage_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    async with cluster_of(tmp_path) as cluster:
        await cluster.create(spec_of(cluster, 1), "killed")
        for moment in DEFAULT_MOMENTS:
            await kill_at(cluster, "killed", moment)
            before = cluster.published("killed")
            await cluster.start_orchestrator()
            await cluster.call("GetRun", pb.GetRunRequest(name="runs/killed"))
            after = cluster.published("killed")
            assert {name: after[name] for name in before} == before, f"finished shards changed after {moment}"
        await check_against_calm_run(cluster, "killed", 1)


async def test_peers_that_are_killed_are_waited_for(tmp_path: Path) -> None:
    async with cluster_of(tmp_path) as cluster:
        await cluster.create(spec_of(cluster, 1), "waiting")
        folder = cluster.store / "runs" / "waiting"
        await cluster.until(lambda: Moment(1, "refine", "middle").reached(folder))
        assert cluster.peers is not None
        cluster.peers.kill()
        await cluster.peers.wait()
        states = set()
        while pb.RUN_STATE_WAITING not in states:
            states.add((await cluster.call("GetRun", pb.GetRunRequest(name="runs/waiting"))).state)
        await cluster.start_peers()
        await check_against_calm_run(cluster, "waiting", 1)


@pytest.mark.slow
@pytest.mark.parametrize("moment", EVERY_MOMENT, ids=str)
async def test_one_kill_at_any_moment_changes_nothing(tmp_path: Path, moment: Moment) -> None:
    async with cluster_of(tmp_path) as cluster:
        await cluster.create(spec_of(cluster, 2), "killed")
        await kill_at(cluster, "killed", moment)
        before = cluster.published("killed")
        await cluster.start_orchestrator()
        await check_against_calm_run(cluster, "killed", 2)
        after = cluster.published("killed")
        assert {name: after[name] for name in before} == before
