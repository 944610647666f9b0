"""The RPCs of ranking: convert, one call of the service, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from ilf.ranking.v1 import ranking_service_pb2 as pb
from ilf.ranking.v1 import ranking_service_pb2_grpc as pb_grpc

from ilf_common.rpc.context import time_remaining
from ilf_common.rpc.pagination import page
from services.ranking import convert
from services.ranking.service import RankingService

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["RankingService"].full_name


class RankingServicer(pb_grpc.RankingServiceServicer):
    """`ilf.ranking.v1.RankingService`."""

    def __init__(self, service: RankingService) -> None:
        self._service = service

    async def Rank(self, request: pb.RankRequest, context: _Context) -> pb.RankResponse:
        """Scores the candidates of one item."""
        ranking = await self._service.rank(
            convert.ranker_from_proto(request.ranker), convert.item_from_request(request), time_remaining()
        )
        return convert.ranking_to_proto(ranking)

    async def BatchRank(self, request: pb.BatchRankRequest, context: _Context) -> AsyncIterator[pb.BatchRankResponse]:
        """Streams outcomes as they finish."""
        outcomes = self._service.rank_batch(
            convert.ranker_from_proto(request.ranker), convert.items_from_proto(request.items), time_remaining()
        )
        async with aclosing(outcomes) as groups:
            async for group in groups:
                yield convert.rankings_to_proto(group)

    async def Compare(self, request: pb.CompareRequest, context: _Context) -> pb.CompareResponse:
        """Compares one pair in both orders."""
        comparison = await self._service.compare(
            convert.judges_from_proto(request.judges), convert.pair_from_request(request), time_remaining()
        )
        return convert.comparison_to_proto(comparison)

    async def BatchCompare(
        self, request: pb.BatchCompareRequest, context: _Context
    ) -> AsyncIterator[pb.BatchCompareResponse]:
        """Streams outcomes as they finish."""
        outcomes = self._service.compare_batch(
            convert.judges_from_proto(request.judges), convert.pairs_from_proto(request.items), time_remaining()
        )
        async with aclosing(outcomes) as groups:
            async for group in groups:
                yield convert.comparisons_to_proto(group)

    async def ListRankers(self, request: pb.ListRankersRequest, context: _Context) -> pb.ListRankersResponse:
        """The rankers on offer."""
        rankers, token = page(
            self._service.list_rankers(), request.page_size, request.page_token, key=lambda ranker: ranker.name
        )
        return pb.ListRankersResponse(rankers=map(convert.ranker_to_proto, rankers), next_page_token=token)
