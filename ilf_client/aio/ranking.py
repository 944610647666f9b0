"""Calls to the ranking service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from ilf.ranking.v1 import ranking_service_pb2 as pb
from ilf.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub

from ilf_client._convert import from_proto, to_proto
from ilf_client._transport import Transport, collect_pages
from ilf_client.models.inference import (
    CompareItem,
    Comparison,
    JudgeSpec,
    Outcome,
    Ranker,
    RankerSpec,
    RankItem,
    RankResult,
)

if TYPE_CHECKING:
    from ilf.ranking.v1.ranking_service_pb2_grpc import RankingServiceAsyncStub


class AsyncRanking:
    """Rank candidates and compare outputs."""

    _transport: Transport

    @cached_property
    def _ranking(self) -> RankingServiceAsyncStub:
        return RankingServiceStub(self._transport.channel("ranking"))

    async def rank(
        self,
        context: str,
        initial_output: str,
        feedback: str,
        candidates: Sequence[str],
        *,
        ranker: RankerSpec | str = "instruct_rm",
        timeout: float | None = None,
    ) -> RankResult:
        """Scores the candidates of one item and chooses one.

        Args:
            context: What the outputs are about.
            initial_output: The output that the feedback speaks of.
            feedback: What the candidates should take in.
            candidates: 1 to 1024 texts.
            ranker: Its name, or a spec with judges.
            timeout: Seconds; None takes the client's.
        """
        request = pb.RankRequest(context=context, initial_output=initial_output, feedback=feedback)
        request.candidates.extend(candidates)
        to_proto(_ranker_spec(ranker), request.ranker)
        return from_proto(await self._transport.call(self._ranking.Rank, request, timeout), RankResult)

    async def batch_rank(
        self, items: Iterable[RankItem], *, ranker: RankerSpec | str = "instruct_rm", timeout: float | None = None
    ) -> AsyncIterator[Outcome[RankResult]]:
        """Ranks many items; outcomes come as they finish, and a bad item never fails its batch."""

        def build(chunk: Sequence[RankItem]) -> pb.BatchRankRequest:
            request = pb.BatchRankRequest()
            to_proto(_ranker_spec(ranker), request.ranker)
            for item in chunk:
                to_proto(item, request.items.add())
            return request

        async for outcome in self._transport.batch(self._ranking.BatchRank, items, build, RankResult, timeout):
            yield outcome

    async def compare(
        self,
        context: str,
        output_a: str,
        output_b: str,
        *,
        judges: Sequence[JudgeSpec] = (),
        timeout: float | None = None,
    ) -> Comparison:
        """Which of two outputs is better; asked in both orders and averaged.

        Args:
            context: What the outputs are about.
            output_a: One output.
            output_b: The other.
            judges: Instead of the server's own; positive answers say "A".
            timeout: Seconds; None takes the client's.
        """
        request = pb.CompareRequest(context=context, output_a=output_a, output_b=output_b)
        for judge in judges:
            to_proto(judge, request.judges.add())
        return from_proto(await self._transport.call(self._ranking.Compare, request, timeout), Comparison)

    async def batch_compare(
        self, items: Iterable[CompareItem], *, judges: Sequence[JudgeSpec] = (), timeout: float | None = None
    ) -> AsyncIterator[Outcome[Comparison]]:
        """Compares many pairs, as `batch_rank` does."""

        def build(chunk: Sequence[CompareItem]) -> pb.BatchCompareRequest:
            request = pb.BatchCompareRequest()
            for judge in judges:
                to_proto(judge, request.judges.add())
            for item in chunk:
                to_proto(item, request.items.add())
            return request

        async for outcome in self._transport.batch(self._ranking.BatchCompare, items, build, Comparison, timeout):
            yield outcome

    async def rankers(self, *, timeout: float | None = None) -> AsyncIterator[Ranker]:
        """The rankers and judges that the server offers."""

        async def fetch(token: str) -> pb.ListRankersResponse:
            return await self._transport.call(
                self._ranking.ListRankers, pb.ListRankersRequest(page_token=token), timeout
            )

        async for ranker in collect_pages(fetch, "rankers", Ranker):
            yield ranker


def _ranker_spec(ranker: RankerSpec | str) -> RankerSpec:
    return RankerSpec(name=ranker) if isinstance(ranker, str) else ranker
