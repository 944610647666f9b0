"""The finetune service, as far as it trains reward models."""

from __future__ import annotations

from typing import Any

import grpc
from ilf.common.v1 import common_pb2
from ilf.finetune.v1 import finetune_service_pb2 as pb
from ilf.finetune.v1 import finetune_service_pb2_grpc as pb_grpc

from ilf_common.rpc.client import RetryPolicy, call
from ilf_common.rpc.context import time_remaining
from ilf_common.rpc.templates import template_to_proto
from services.reward.models import TrainCall

_LORA_RANK = 16


class FinetuneClient:
    """Creates jobs through `ilf.finetune.v1.FinetuneService`.

    Args:
        channel: To the finetune service.
        timeout: Seconds for one call whose caller set no deadline.
    """

    def __init__(self, channel: grpc.aio.Channel, timeout: float) -> None:
        self._stub: Any = pb_grpc.FinetuneServiceStub(channel)
        self._timeout = timeout

    async def create_job(self, wanted: TrainCall) -> str:
        """Creates the job of a request id, or finds it again, and answers its name."""
        remaining = time_remaining()
        job: pb.FinetuneJob = await call(
            self._stub.CreateFinetuneJob,
            pb.CreateFinetuneJobRequest(request_id=wanted.request_id, spec=_spec(wanted)),
            timeout=self._timeout if remaining is None else remaining,
            retry=RetryPolicy(),
        )
        return job.name


def _spec(wanted: TrainCall) -> pb.FinetuneSpec:
    hyperparameters = pb.Hyperparameters(
        learning_rate=wanted.learning_rate,
        epochs=wanted.epochs,
        batch_size=wanted.batch_size,
        seed=wanted.seed,
        max_length=wanted.max_length,
        lora=pb.LoraSpec(rank=_LORA_RANK) if wanted.lora else None,
    )
    return pb.FinetuneSpec(
        kind=pb.FINETUNE_KIND_REWARD_MODEL,
        base_model=wanted.base_model,
        dataset_uri=wanted.dataset_uri,
        output_uri=wanted.output_uri,
        hyperparameters=hyperparameters,
        # A reward model is served as one whole directory.
        merge_adapter=wanted.lora,
        template=template_to_proto(wanted.question) if wanted.question else None,
        reward=pb.RewardOptions(
            loss=common_pb2.RewardLoss.Value(f"REWARD_LOSS_{wanted.loss.name}"),
            held_out_uri=wanted.held_out_uri,
            held_out_share=wanted.held_out_share,
            slice_column=wanted.slice_column,
        ),
    )
