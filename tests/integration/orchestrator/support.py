"""An orchestrator with stand-in peers in this process, and the spec of a small run."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format
from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb
from ilf.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceStub

from ilf_common.artifacts import ArtifactStore
from ilf_common.rpc.client import ChannelSettings
from ilf_common.settings import StoreSettings
from services.orchestrator.settings import LimitSettings, OrchestratorSettings, PoolSettings
from services.orchestrator.wiring import Orchestrator
from tests.fakes.peers import Peers, register
from tests.support import running_server

ENDED = (pb.RUN_STATE_SUCCEEDED, pb.RUN_STATE_FAILED, pb.RUN_STATE_CANCELLED)


@dataclass
class Scene:
    """What a test holds in its hands."""

    stub: Any
    built: Orchestrator
    peers: Peers
    store: ArtifactStore
    folder: Path
    peers_address: str
    settings: OrchestratorSettings

    async def create(self, spec: dict[str, Any], **fields: Any) -> pb.Run:
        request = pb.CreateRunRequest(spec=json_format.ParseDict(spec, pb.RunSpec()), **fields)
        run: pb.Run = await self.stub.CreateRun(request)
        return run

    @asynccontextmanager
    async def restarted(self) -> AsyncIterator[None]:
        """The same orchestrator, stopped and built anew."""
        await self.built.drain()
        await self.built.stop()
        self.built = Orchestrator(self.settings)
        await self.built.start()
        async with served(self.built) as self.stub:
            yield

    async def end(self, run: pb.Run) -> pb.Run:
        async for response in self.stub.WatchRun(pb.WatchRunRequest(name=run.name)):
            run = response.run
        return run


def write_rows(folder: Path, name: str, rows: Sequence[dict[str, Any]]) -> str:
    path = folder / "store" / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return f"data/{name}"


def rows(prefix: str, count: int, **fields: str) -> list[dict[str, Any]]:
    return [
        {"id": f"{prefix}-{n}", "context": f"{prefix} context {n}", "reference": f"{prefix} reference {n}", **fields}
        for n in range(count)
    ]


def small_spec(scene: Scene, *, train: int = 40, test: int = 10, **changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "dataset": {
            "train_uri": write_rows(scene.folder, "train.jsonl", rows("train", train)),
            "test_uri": write_rows(scene.folder, "test.jsonl", rows("test", test)),
        },
        "iterations": 1,
        "seed": 7,
        "shard_rows": 8,
        "policy": "base",
        "generate": {"template": {"name": "policy", "text": "{context}"}},
        "feedback": {"source": "SOURCE_PLUGIN", "plugin_address": scene.peers_address},
        "refine": {"refiner": "refiner", "sampling": {"n": 3}},
        "evaluate": {"plugin_address": scene.peers_address, "nll": True, "win_rate": True},
    }
    spec.update(changes)
    return spec


@asynccontextmanager
async def served(built: Orchestrator) -> AsyncIterator[Any]:
    """A stub of an orchestrator that is started."""
    async with (
        running_server(built.register, component="orchestrator") as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield OrchestratorServiceStub(channel)


@asynccontextmanager
async def scene(
    folder: Path,
    *,
    database_url: str | None = None,
    pools: dict[Any, PoolSettings] | None = None,
    hand_over_seconds: float = 60.0,
    **options: Any,
) -> AsyncIterator[Scene]:
    """An orchestrator and its peers."""
    store = ArtifactStore(str(folder / "store"))
    peers = Peers(store, **options)
    async with running_server(register(peers)) as address:
        channel = ChannelSettings(address=address)
        settings = OrchestratorSettings(
            store=StoreSettings(root=str(folder / "store")),
            state_dir=folder / "state",
            database_url=database_url,
            refinement=channel,
            ranking=channel,
            reward=channel,
            finetune=channel,
            limits=LimitSettings(rank_rows=4, hand_over_seconds=hand_over_seconds),
            pools=pools or {},
        )
        here = Scene(None, Orchestrator(settings), peers, store, folder, address, settings)
        await here.built.start()
        try:
            async with served(here.built) as here.stub:
                yield here
        finally:
            await here.built.drain()
            await here.built.stop()
