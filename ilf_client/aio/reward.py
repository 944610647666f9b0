"""Calls to the reward service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from ilf.common.v1 import common_pb2
from ilf.reward.v1 import reward_service_pb2 as pb
from ilf.reward.v1.reward_service_pb2_grpc import RewardServiceStub

from ilf_client._convert import from_proto, template_to_proto, to_proto
from ilf_client._transport import Transport, collect_pages, new_request_id
from ilf_client.models.inference import CompareItem, Outcome, PostProcessing, SamplingParams
from ilf_client.models.jobs import RewardLoss, RewardOptions
from ilf_client.models.reward import BestOfN, RewardComparison, RewardModel, RewardScore, ScoreItem
from ilf_common.rewards.report import RewardReport
from ilf_common.templates import PromptTemplate

if TYPE_CHECKING:
    from ilf.reward.v1.reward_service_pb2_grpc import RewardServiceAsyncStub


class AsyncReward:
    """Train, load, measure and ask reward models; where `models` are wanted, one name will do."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @cached_property
    def _stub(self) -> RewardServiceAsyncStub:
        return RewardServiceStub(self._transport.channel("reward"))

    async def score(
        self,
        models: str | Sequence[str],
        context: str,
        output: str,
        *,
        normalize: bool = False,
        timeout: float | None = None,
    ) -> RewardScore:
        """Reward of one output; of several models the mean of their normalized rewards.

        Args:
            models: Loaded reward models.
            context: What the output is about.
            output: What is scored.
            normalize: Subtract the mean and divide by the deviation stored with the model; needed with several.
            timeout: Seconds; None takes the client's.
        """
        request = pb.ScoreRequest(models=_names(models), context=context, output=output, normalize=normalize)
        return from_proto(await self._transport.call(self._stub.Score, request, timeout), RewardScore)

    async def batch_score(
        self,
        models: str | Sequence[str],
        items: Iterable[ScoreItem],
        *,
        normalize: bool = False,
        timeout: float | None = None,
    ) -> AsyncIterator[Outcome[RewardScore]]:
        """Rewards of many outputs; outcomes come as they finish, and a bad item never fails its batch."""

        def build(chunk: Sequence[ScoreItem]) -> pb.BatchScoreRequest:
            request = pb.BatchScoreRequest(models=_names(models), normalize=normalize)
            for item in chunk:
                to_proto(item, request.items.add())
            return request

        async for outcome in self._transport.batch(self._stub.BatchScore, items, build, RewardScore, timeout):
            yield outcome

    async def compare(
        self,
        models: str | Sequence[str],
        context: str,
        output_a: str,
        output_b: str,
        *,
        timeout: float | None = None,
    ) -> RewardComparison:
        """Which of two outputs is better, by reward models of any loss."""
        request = pb.CompareRequest(models=_names(models), context=context, output_a=output_a, output_b=output_b)
        return from_proto(await self._transport.call(self._stub.Compare, request, timeout), RewardComparison)

    async def batch_compare(
        self, models: str | Sequence[str], items: Iterable[CompareItem], *, timeout: float | None = None
    ) -> AsyncIterator[Outcome[RewardComparison]]:
        """Compares many pairs, as `batch_score` scores many outputs."""

        def build(chunk: Sequence[CompareItem]) -> pb.BatchCompareRequest:
            request = pb.BatchCompareRequest(models=_names(models))
            for item in chunk:
                to_proto(item, request.items.add())
            return request

        async for outcome in self._transport.batch(self._stub.BatchCompare, items, build, RewardComparison, timeout):
            yield outcome

    async def evaluate(
        self,
        models: str | Sequence[str],
        dataset_uri: str,
        *,
        slice_column: str = "",
        timeout: float | None = None,
    ) -> RewardReport:
        """Measures reward models on comparisons that they have not been trained on.

        Args:
            models: Loaded reward models; of several the mean probability is measured.
            dataset_uri: Comparisons in the artifact store. Those whose context a model was trained on are dropped and
                counted.
            slice_column: Column whose values get a line each in the report.
            timeout: Seconds; None waits as long as a load may take.
        """
        request = pb.EvaluateRewardModelRequest(
            models=_names(models), dataset_uri=dataset_uri, slice_column=slice_column
        )
        deadline = self._transport.timeouts.load if timeout is None else timeout
        response = await self._transport.call(self._stub.EvaluateRewardModel, request, deadline)
        return from_proto(response.report, RewardReport)

    async def best_of_n(
        self,
        reward_models: str | Sequence[str],
        model: str,
        context: str,
        *,
        sampling: SamplingParams,
        template: PromptTemplate | str | None = None,
        post_processing: PostProcessing | None = None,
        timeout: float | None = None,
    ) -> BestOfN:
        """Samples `sampling.n` outputs and answers the best: by reward, or by win rate where models only compare."""
        request = pb.BestOfNRequest(reward_models=_names(reward_models), model=model, context=context)
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
        options: RewardOptions | None = None,
        template: PromptTemplate | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """Starts a REWARD_MODEL job and answers its name, for `jobs.watch`; 0 means the service's default.

        Args:
            base_model: As in `FinetuneSpec`.
            dataset_uri: Comparisons in the artifact store: `prompt`, `chosen`, `rejected` and optionally `margin`, or
                SLF5K's fields.
            output_uri: Where the reward model is published.
            learning_rate: Peak.
            epochs: Passes over the comparisons.
            batch_size: Comparisons per optimizer step.
            seed: Of everything random.
            max_length: Longest sequence in tokens.
            lora: Train an adapter, and merge it.
            options: The loss, and what is held out.
            template: The question of YES_NO and A_B; None takes the shipped one.
            request_id: The same id answers the same job.
            timeout: Seconds; None takes the client's.
        """
        wanted = options or RewardOptions()
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
            held_out_uri=wanted.held_out_uri,
            held_out_share=wanted.held_out_share,
            slice_column=wanted.slice_column,
        )
        if wanted.loss is not RewardLoss.UNSPECIFIED:
            request.loss = common_pb2.RewardLoss.Value(f"REWARD_LOSS_{wanted.loss.name}")
        template_to_proto(template, request.template)
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


def _names(models: str | Sequence[str]) -> Sequence[str]:
    return [models] if isinstance(models, str) else models
