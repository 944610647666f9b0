"""The refinement service as a process that is killed and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ilf.common.v1 import common_pb2
from ilf.refinement.v1 import refinement_service_pb2 as pb
from ilf.refinement.v1 import refinement_service_pb2_grpc as pb_grpc

from ilf_common.artifacts import ArtifactStore
from tests.tiny_models import build_tiny_adapter, build_tiny_model, tiny_sentence

pytestmark = [pytest.mark.engine, pytest.mark.crash]


@asynccontextmanager
async def running_process(root: Path, base: Path, port: int) -> AsyncIterator[tuple[asyncio.subprocess.Process, Any]]:
    environment = {
        **os.environ,
        "ILF_REFINEMENT__SERVER__PORT": str(port),
        "ILF_REFINEMENT__SERVER__METRICS_PORT": "0",
        "ILF_REFINEMENT__STORE__ROOT": str(root / "artifacts"),
        "ILF_REFINEMENT__STATE_DIR": str(root / "state"),
        "ILF_REFINEMENT__MODELS": f'{{"base": "{base}"}}',
        "ILF_REFINEMENT__ENGINE__KIND": "transformers",
        "ILF_REFINEMENT__ENGINE__THREADS": "1",
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.refinement", env=environment)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await serving(channel)
            yield process, pb_grpc.RefinementServiceStub(channel)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def serving(channel: grpc.aio.Channel) -> None:
    """Returns when health says SERVING, which is after everything was restored."""
    health = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service="ilf.refinement.v1.RefinementService")
    async with asyncio.timeout(120):
        async for response in health.Watch(request, wait_for_ready=True):
            if response.status == health_pb2.HealthCheckResponse.SERVING:
                return


async def greedy(stub: Any, model: str) -> tuple[str, str]:
    sampling = common_pb2.SamplingParams(temperature=0, max_new_tokens=8)
    response = await stub.Generate(pb.GenerateRequest(model=model, context=tiny_sentence(1), sampling=sampling))
    return response.outputs[0].text, response.model_version


@pytest.fixture
def port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_kill_and_restart_restore_versions_and_aliases_and_sigterm_ends_in_peace(
    tmp_path: Path, port: int
) -> None:
    base = build_tiny_model(tmp_path / "base")
    store = ArtifactStore(str(tmp_path / "artifacts"))
    store.publish_directory(build_tiny_model(tmp_path / "draft", seed=1), "one")
    store.publish_directory(build_tiny_adapter(tmp_path / "draft-adapter", base, seed=2), "two")
    names = ("base", "run/it-1", "run/it-2", "live")

    async with running_process(tmp_path, base, port) as (process, stub):
        await stub.LoadPolicy(pb.LoadPolicyRequest(name="run/it-1", uri="one"))
        await stub.LoadPolicy(pb.LoadPolicyRequest(name="run/it-2", uri="two", base_model="base"))
        await stub.PromotePolicy(pb.PromotePolicyRequest(alias="live", name="run/it-2"))
        before = [await greedy(stub, name) for name in names]
        process.send_signal(signal.SIGKILL)
        await process.wait()

    async with running_process(tmp_path, base, port) as (process, stub):
        assert [await greedy(stub, name) for name in names] == before
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
