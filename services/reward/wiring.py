"""Builds the reward service."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import grpc
from ilf.reward.v1 import reward_service_pb2_grpc as pb_grpc
from prometheus_client import Gauge

from ilf_common.artifacts import ArtifactStore
from ilf_common.rewards.transformers_model import TransformersRewardLoader
from ilf_common.rpc.client import open_channel
from ilf_common.rpc.server import serve
from ilf_common.telemetry import REGISTRY
from services.reward.adapters.artifact_checkpoints import ArtifactCheckpoints
from services.reward.adapters.artifact_comparisons import ArtifactComparisons
from services.reward.adapters.finetune_client import FinetuneClient
from services.reward.adapters.json_memory import JsonMemory
from services.reward.adapters.refinement_client import RefinementClient
from services.reward.models import Limits
from services.reward.service import RewardService, Surroundings
from services.reward.servicer import SERVICE_NAME, RewardServicer
from services.reward.settings import ModelSettings, RewardSettings
from services.reward.shelf import ModelShelf


async def run(settings: RewardSettings) -> None:
    """Runs the service until SIGTERM or SIGINT."""
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reward-model")
    async with open_channel(settings.refinement) as refinement, open_channel(settings.finetune) as finetune:
        store = ArtifactStore(settings.store.root)
        models = ModelShelf(
            checkpoints=ArtifactCheckpoints(store),
            loader=build_loader(settings.model),
            memory=JsonMemory(settings.state_dir / "models.json"),
            clock=lambda: datetime.now(UTC),
            executor=executor,
            limits=limits(settings.model),
        )
        surroundings = Surroundings(
            comparisons=ArtifactComparisons(store),
            sampler=RefinementClient(refinement, settings.call_seconds),
            trainer=FinetuneClient(finetune, settings.call_seconds),
        )
        service = RewardService(models, surroundings)
        waiting = Gauge("ilf_reward_waiting", "Sequences that wait for a reward model.", registry=REGISTRY)
        waiting.set_function(models.queued)
        await serve(
            "reward",
            settings.server,
            register=lambda server: register(server, service),
            start=models.start,
            stop=models.stop,
            telemetry=settings.telemetry,
        )
    executor.shutdown()


def register(server: grpc.aio.Server, service: RewardService) -> Sequence[str]:
    """Adds the service to a server and answers its name."""
    pb_grpc.add_RewardServiceServicer_to_server(RewardServicer(service), server)
    return [SERVICE_NAME]


def build_loader(settings: ModelSettings) -> TransformersRewardLoader:
    """The loader that the settings ask for."""
    return TransformersRewardLoader(
        settings.device, settings.dtype, settings.max_length, settings.threads, settings.attention
    )


def limits(settings: ModelSettings) -> Limits:
    """Sizes of batches and queues."""
    return Limits(settings.batch_tokens, settings.max_batch_size, settings.max_queue)
