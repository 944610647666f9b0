"""The refinement service, as far as it samples outputs."""

from __future__ import annotations

from typing import Any

import grpc
from ilf.common.v1 import common_pb2
from ilf.refinement.v1 import refinement_service_pb2 as pb
from ilf.refinement.v1 import refinement_service_pb2_grpc as pb_grpc

from ilf_common.engine.port import FinishReason, Sample
from ilf_common.rpc.client import RetryPolicy, call
from ilf_common.rpc.context import time_remaining
from services.reward.models import BestOfNCall, SampledOutputs, SamplingChoice


class RefinementClient:
    """Samples through `ilf.refinement.v1.RefinementService`.

    Args:
        channel: To the refinement service.
        timeout: Seconds for one call whose caller set no deadline.
    """

    def __init__(self, channel: grpc.aio.Channel, timeout: float) -> None:
        self._stub: Any = pb_grpc.RefinementServiceStub(channel)
        self._timeout = timeout

    async def sample(self, wanted: BestOfNCall) -> SampledOutputs:
        """Draws the outputs of one call, within the time that its caller leaves."""
        remaining = time_remaining()
        response: pb.GenerateResponse = await call(
            self._stub.Generate,
            _request(wanted),
            timeout=self._timeout if remaining is None else remaining,
            retry=RetryPolicy(),
        )
        return SampledOutputs(tuple(_sample(sample) for sample in response.outputs), response.model_version)


def _request(wanted: BestOfNCall) -> pb.GenerateRequest:
    options = wanted.post_processing
    return pb.GenerateRequest(
        model=wanted.model,
        context=wanted.context,
        sampling=_sampling(wanted.sampling),
        template=common_pb2.PromptTemplate(
            name=wanted.template.name, text=wanted.template.text, target_prefix=wanted.template.target_prefix
        ),
        post_processing=common_pb2.PostProcessing(
            normalize_whitespace=options.normalize_whitespace,
            first_line_only=options.first_line_only,
            drop_unfinished_sentence=options.drop_unfinished_sentence,
            resample_budget=options.resample_budget,
            forbidden_substrings=options.forbidden_substrings,
        ),
    )


def _sampling(choice: SamplingChoice) -> common_pb2.SamplingParams:
    return common_pb2.SamplingParams(
        n=choice.n,
        temperature=choice.temperature,
        top_p=choice.top_p,
        max_new_tokens=choice.max_new_tokens,
        seed=choice.seed,
        stop=choice.stop,
    )


def _sample(sample: common_pb2.Sample) -> Sample:
    cut = sample.finish_reason == common_pb2.FINISH_REASON_LENGTH
    return Sample(sample.text, sample.token_count, FinishReason.LENGTH if cut else FinishReason.STOP, sample.logprob)
