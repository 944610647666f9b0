"""The RPCs of the reward service: convert, one call of the service, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from ilf.reward.v1 import reward_service_pb2 as pb
from ilf.reward.v1 import reward_service_pb2_grpc as pb_grpc

from ilf_common.rpc.pagination import page
from services.reward import convert
from services.reward.service import RewardService

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["RewardService"].full_name


class RewardServicer(pb_grpc.RewardServiceServicer):
    """`ilf.reward.v1.RewardService`."""

    def __init__(self, service: RewardService) -> None:
        self._service = service

    async def Score(self, request: pb.ScoreRequest, context: _Context) -> pb.ScoreResponse:
        """The reward of one output."""
        reward = await self._service.score(
            request.models, convert.item_from_request(request), normalize=request.normalize
        )
        return convert.reward_to_proto(reward)

    async def BatchScore(
        self, request: pb.BatchScoreRequest, context: _Context
    ) -> AsyncIterator[pb.BatchScoreResponse]:
        """Streams outcomes as they finish."""
        async with aclosing(self._service.score_batch(convert.batch_from_proto(request))) as groups:
            async for outcomes in groups:
                yield convert.outcomes_to_proto(outcomes)

    async def Compare(self, request: pb.CompareRequest, context: _Context) -> pb.CompareResponse:
        """Which of two outputs is better."""
        return convert.preference_to_proto(
            await self._service.compare(request.models, convert.pair_from_request(request))
        )

    async def BatchCompare(
        self, request: pb.BatchCompareRequest, context: _Context
    ) -> AsyncIterator[pb.BatchCompareResponse]:
        """Streams outcomes as they finish."""
        async with aclosing(self._service.compare_batch(convert.pairs_from_proto(request))) as groups:
            async for outcomes in groups:
                yield convert.preferences_to_proto(outcomes)

    async def EvaluateRewardModel(
        self, request: pb.EvaluateRewardModelRequest, context: _Context
    ) -> pb.EvaluateRewardModelResponse:
        """Measures models on comparisons."""
        report = await self._service.evaluate(convert.evaluate_from_proto(request))
        return pb.EvaluateRewardModelResponse(report=convert.report_to_proto(report))

    async def BestOfN(self, request: pb.BestOfNRequest, context: _Context) -> pb.BestOfNResponse:
        """Samples N outputs and answers the best."""
        return convert.best_of_n_to_proto(await self._service.best_of_n(convert.best_of_n_from_proto(request)))

    async def TrainRewardModel(
        self, request: pb.TrainRewardModelRequest, context: _Context
    ) -> pb.TrainRewardModelResponse:
        """Starts a job at the finetune service."""
        return pb.TrainRewardModelResponse(job=await self._service.train(convert.train_from_proto(request)))

    async def LoadRewardModel(self, request: pb.LoadRewardModelRequest, context: _Context) -> pb.RewardModel:
        """Serves a trained directory."""
        return convert.model_to_proto(await self._service.models.load(request.request_id, request.name, request.uri))

    async def GetRewardModel(self, request: pb.GetRewardModelRequest, context: _Context) -> pb.RewardModel:
        """A loaded model."""
        return convert.model_to_proto(self._service.models.get(request.name))

    async def ListRewardModels(
        self, request: pb.ListRewardModelsRequest, context: _Context
    ) -> pb.ListRewardModelsResponse:
        """The loaded models by name."""
        versions, token = page(
            self._service.models.list_models(), request.page_size, request.page_token, key=lambda version: version.name
        )
        return pb.ListRewardModelsResponse(reward_models=map(convert.model_to_proto, versions), next_page_token=token)

    async def UnloadRewardModel(
        self, request: pb.UnloadRewardModelRequest, context: _Context
    ) -> pb.UnloadRewardModelResponse:
        """Takes a model out of service."""
        await self._service.models.unload(request.request_id, request.name)
        return pb.UnloadRewardModelResponse()
