"""What the reward service sends to the refinement and the finetune service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import pytest
from ilf.common.v1 import common_pb2
from ilf.finetune.v1 import finetune_service_pb2 as finetune_pb
from ilf.finetune.v1 import finetune_service_pb2_grpc as finetune_grpc
from ilf.refinement.v1 import refinement_service_pb2 as refinement_pb
from ilf.refinement.v1 import refinement_service_pb2_grpc as refinement_grpc

from ilf_common.engine.port import FinishReason
from ilf_common.errors import InvalidArgumentError, UnavailableError
from ilf_common.rewards.kinds import RewardLoss
from ilf_common.templates import PromptTemplate
from services.reward.adapters.finetune_client import FinetuneClient
from services.reward.adapters.refinement_client import RefinementClient
from services.reward.models import (
    BestOfNCall,
    PostProcessingChoice,
    SamplingChoice,
    TemplateChoice,
    TrainCall,
)
from tests.support import running_channel


class Neighbours:
    """Keeps the requests; fails the first call as long as there are `errors`."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.requests: list[Any] = []

    async def Generate(self, request: refinement_pb.GenerateRequest, context: Any) -> refinement_pb.GenerateResponse:
        self._keep(request)
        samples = [
            common_pb2.Sample(text="a", token_count=1, finish_reason=common_pb2.FINISH_REASON_LENGTH, logprob=-1.5),
            common_pb2.Sample(text="b", token_count=2, finish_reason=common_pb2.FINISH_REASON_STOP, logprob=-2.0),
        ]
        return refinement_pb.GenerateResponse(outputs=samples, model_version="policy@1")

    async def CreateFinetuneJob(
        self, request: finetune_pb.CreateFinetuneJobRequest, context: Any
    ) -> finetune_pb.FinetuneJob:
        self._keep(request)
        return finetune_pb.FinetuneJob(name="jobs/1")

    def _keep(self, request: Any) -> None:
        self.requests.append(request)
        if self.errors:
            raise self.errors.pop(0)

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        refinement: Any = refinement_grpc.RefinementServiceServicer
        finetune: Any = finetune_grpc.FinetuneServiceServicer
        servicer: Any = type("Servicer", (refinement, finetune), {})()
        servicer.Generate, servicer.CreateFinetuneJob = self.Generate, self.CreateFinetuneJob
        refinement_grpc.add_RefinementServiceServicer_to_server(servicer, server)
        finetune_grpc.add_FinetuneServiceServicer_to_server(servicer, server)
        return []


async def test_sampling_options_reach_the_refinement_service_as_they_came() -> None:
    neighbours = Neighbours()
    async with running_channel(neighbours.register) as channel:
        drawn = await RefinementClient(channel, 5).sample(
            BestOfNCall(
                ("rm",),
                "policy",
                "c",
                SamplingChoice(2, temperature=0.0, max_new_tokens=9, stop=("\n",)),
                TemplateChoice(text="{context}!", target_prefix=" "),
                PostProcessingChoice(resample_budget=4, forbidden_substrings=("x",)),
            )
        )
    (request,) = neighbours.requests
    assert (request.model, request.context, request.sampling.n) == ("policy", "c", 2)
    assert request.sampling.HasField("temperature") and request.sampling.temperature == 0.0
    assert not request.sampling.HasField("top_p") and not request.sampling.HasField("seed")
    assert request.sampling.max_new_tokens == 9 and list(request.sampling.stop) == ["\n"]
    assert (request.template.text, request.template.target_prefix) == ("{context}!", " ")
    assert request.post_processing.resample_budget == 4
    assert [sample.finish_reason for sample in drawn.samples] == [FinishReason.LENGTH, FinishReason.STOP]
    assert drawn.model_version == "policy@1"


async def test_a_refused_sampling_option_keeps_its_field() -> None:
    error = InvalidArgumentError.of("sampling.top_p", "is 3")
    async with running_channel(Neighbours(error).register) as channel:
        with pytest.raises(InvalidArgumentError) as caught:
            await RefinementClient(channel, 5).sample(BestOfNCall(("rm",), "policy", "c", SamplingChoice(2)))
    assert caught.value.violations[0].field == "sampling.top_p"


async def test_a_job_is_created_under_the_same_request_id_when_the_first_try_fails() -> None:
    neighbours = Neighbours(UnavailableError("not now"))
    wanted = TrainCall("id-1", "base", "d.jsonl", "out", learning_rate=0.1, epochs=2, seed=5, max_length=64, lora=True)
    async with running_channel(neighbours.register) as channel:
        assert await FinetuneClient(channel, 5).create_job(wanted) == "jobs/1"
    first, second = neighbours.requests
    assert first == second and first.request_id == "id-1"
    spec = first.spec
    assert (spec.kind, spec.merge_adapter) == (finetune_pb.FINETUNE_KIND_REWARD_MODEL, True)
    assert (spec.base_model, spec.dataset_uri, spec.output_uri) == ("base", "d.jsonl", "out")
    assert (spec.hyperparameters.learning_rate, spec.hyperparameters.epochs) == (0.1, 2.0)
    assert spec.hyperparameters.lora.rank > 0 and spec.hyperparameters.max_length == 64


async def test_the_loss_the_question_and_what_is_held_out_reach_the_finetune_service() -> None:
    neighbours = Neighbours()
    wanted = TrainCall(
        "id-1",
        "base",
        "d.jsonl",
        "out",
        loss=RewardLoss.YES_NO,
        question=PromptTemplate("q", "{context} {candidate}?", " ", ("Yes",), ("No",)),
        held_out_uri="h.jsonl",
        slice_column="topic",
    )
    async with running_channel(neighbours.register) as channel:
        await FinetuneClient(channel, 5).create_job(wanted)
    spec = neighbours.requests[0].spec
    assert spec.reward.loss == common_pb2.REWARD_LOSS_YES_NO
    assert (spec.reward.held_out_uri, spec.reward.slice_column) == ("h.jsonl", "topic")
    assert (spec.template.text, spec.template.target_prefix) == ("{context} {candidate}?", " ")
    assert (list(spec.template.positive_answers), list(spec.template.negative_answers)) == (["Yes"], ["No"])


async def test_without_lora_all_weights_are_trained() -> None:
    neighbours = Neighbours()
    async with running_channel(neighbours.register) as channel:
        await FinetuneClient(channel, 5).create_job(TrainCall("id-1", "base", "d.jsonl", "out"))
    spec = neighbours.requests[0].spec
    assert not spec.hyperparameters.HasField("lora") and not spec.merge_adapter
