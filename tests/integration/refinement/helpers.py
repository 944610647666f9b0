"""The refinement service on a real engine, and tiny checkpoints for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ilf.common.v1 import common_pb2
from ilf.refinement.v1 import refinement_service_pb2 as pb
from ilf.refinement.v1 import refinement_service_pb2_grpc as pb_grpc
from prometheus_client import CollectorRegistry

from ilf_common.artifacts import ArtifactStore
from ilf_common.engine.settings import EngineSettings
from ilf_common.settings import StoreSettings
from services.refinement.settings import RefinementSettings
from services.refinement.wiring import COMPONENT, build
from tests.support import running_channel
from tests.tiny_models import build_tiny_adapter, build_tiny_model, tiny_sentence


@asynccontextmanager
async def running_service(state: Path, store: ArtifactStore, base: Path, engine: EngineSettings) -> AsyncIterator[Any]:
    """A stub of the service with one configured model, `base`."""
    settings = RefinementSettings(
        store=StoreSettings(root=store.root), state_dir=state, models={"base": str(base)}, engine=engine
    )
    service = build(settings, registry=CollectorRegistry())
    await service.start()
    try:
        async with running_channel(service.register, component=COMPONENT) as channel:
            yield pb_grpc.RefinementServiceStub(channel)
    finally:
        await service.stop()


def checkpoint(store: ArtifactStore, tmp_path: Path, seed: int) -> str:
    store.publish_directory(build_tiny_model(tmp_path / f"checkpoint-{seed}", seed=seed), f"checkpoint-{seed}")
    return f"checkpoint-{seed}"


def adapter(store: ArtifactStore, tmp_path: Path, base: Path, seed: int, *, rank: int = 4) -> str:
    store.publish_directory(build_tiny_adapter(tmp_path / f"adapter-{seed}", base, seed=seed, rank=rank), f"a-{seed}")
    return f"a-{seed}"


async def greedy(stub: Any, model: str) -> tuple[str, str]:
    sampling = common_pb2.SamplingParams(temperature=0, max_new_tokens=8)
    response = await stub.Generate(pb.GenerateRequest(model=model, context=tiny_sentence(1), sampling=sampling))
    return response.outputs[0].text, response.model_version


async def load(stub: Any, uri: str, **changes: Any) -> pb.Policy:
    return await stub.LoadPolicy(pb.LoadPolicyRequest(**{"name": "run/it-1", "uri": uri, **changes}))
