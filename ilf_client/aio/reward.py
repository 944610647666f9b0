"""Calls to the reward service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from ilf.reward.v1 import reward_service_pb2 as pb
from ilf.reward.v1.reward_service_pb2_grpc import RewardServiceStub

from ilf_client._convert import from_proto, template_to_proto, to_proto
from ilf_client._transport import Transport, collect_pages, new_request_id
from ilf_client.models.inference import Outcome, PostProcessing, SamplingParams
from ilf_client.models.reward import BestOfN, RewardModel, RewardScore, ScoreItem
from ilf_common.templates import PromptTemplate

if TYPE_CHECKING:
    from ilf.reward.v1.reward_service_pb2_grpc import RewardServiceAsyncStub


class AsyncReward:
    """Train, load and ask reward models."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @cached_property
    def _stub(self) -> RewardServiceAsyncStub:
        return RewardServiceStub(self._transport.channel("reward"))

    async def score(
        self, model: str, context: str, output: str, *, normalize: bool = False, timeout: float | None = None
    ) -> RewardScore:
        """Reward of one output.

        Args:
            model: A loaded reward model.
            context: What the output is about.
            output: What is scored.
            normalize: Subtract the mean and divide by the deviation stored with the model.
            timeout: Seconds; None takes the client's.
        """
        request = pb.ScoreRequest(model=model, context=context, output=output, normalize=normalize)
        return from_proto(await self._transport.call(self._stub.Score, request, timeout), RewardScore)

    async def batch_score(
        self, model: str, items: Iterable[ScoreItem], *, normalize: bool = False, timeout: float | None = None
    ) -> AsyncIterator[Outcome[RewardScore]]:
        """Rewards of many outputs; outcomes come as they finish, and a bad item never fails its batch."""

        def build(chunk: Sequence[ScoreItem]) -> pb.BatchScoreRequest:
            request = pb.BatchScoreRequest(model=model, normalize=normalize)
            for item in chunk:
                to_proto(item, request.items.add())
            return request

        async for outcome in self._transport.batch(self._stub.BatchScore, items, build, RewardScore, timeout):
            yield outcome

    async def best_of_n(
        self,
        reward_model: str,
        model: str,
        context: str,
        *,
        sampling: SamplingParams,
        template: PromptTemplate | str | None = None,
        post_processing: PostProcessing | None = None,
        timeout: float | None = None,
    ) -> BestOfN:
        """Samples `sampling.n` outputs and answers the one with the highest reward."""
        request = pb.BestOfNRequest(reward_model=reward_model, model=model, context=context)
        to_proto(sampling, request.sampling)
        if template is not None:
            template_to_proto(template, request.template)
        if post_processing is not None:
            to_proto(post_processing, request.post_processing)
        return from_proto(await self._transport.call(self._stub.BestOfN, request, timeout), BestOfN)

    async def train(
        self,
        base_model: str,
        dataset_uri: str,
        output_uri: str,
        *,
        learning_rate: float = 0.0,
        epochs: float = 0.0,
        batch_size: int = 0,
        seed: int = 0,
        max_length: int = 0,
        lora: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """Starts a REWARD_MODEL job and answers its name, for `jobs.watch`; 0 means the service's default."""
        request = pb.TrainRewardModelRequest(
            request_id=new_request_id(request_id),
            base_model=base_model,
            dataset_uri=dataset_uri,
            output_uri=output_uri,
            learning_rate=learning_rate,
            epochs=epochs,
            batch_size=batch_size,
            seed=seed,
            max_length=max_length,
            lora=lora,
        )
        return (await self._transport.call(self._stub.TrainRewardModel, request, timeout)).job

    async def load(
        self, name: str, uri: str, *, request_id: str | None = None, timeout: float | None = None
    ) -> RewardModel:
        """Loads a trained directory under a name."""
        request = pb.LoadRewardModelRequest(request_id=new_request_id(request_id), name=name, uri=uri)
        deadline = self._transport.timeouts.load if timeout is None else timeout
        return from_proto(await self._transport.call(self._stub.LoadRewardModel, request, deadline), RewardModel)

    async def get(self, name: str, *, timeout: float | None = None) -> RewardModel:
        """One reward model."""
        request = pb.GetRewardModelRequest(name=name)
        return from_proto(await self._transport.call(self._stub.GetRewardModel, request, timeout), RewardModel)

    async def list(self, *, timeout: float | None = None) -> AsyncIterator[RewardModel]:
        """All loaded reward models."""

        async def fetch(token: str) -> pb.ListRewardModelsResponse:
            request = pb.ListRewardModelsRequest(page_token=token)
            return await self._transport.call(self._stub.ListRewardModels, request, timeout)

        async for model in collect_pages(fetch, "reward_models", RewardModel):
            yield model

    async def unload(self, name: str, *, request_id: str | None = None, timeout: float | None = None) -> None:
        """Takes a reward model out of service."""
        request = pb.UnloadRewardModelRequest(request_id=new_request_id(request_id), name=name)
        await self._transport.call(self._stub.UnloadRewardModel, request, timeout)
