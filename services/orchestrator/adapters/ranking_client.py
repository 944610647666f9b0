"""The ranking service, over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import grpc
from ilf.ranking.v1 import ranking_service_pb2 as pb
from ilf.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub

from ilf_common.errors import NotFoundError
from ilf_common.rpc.client import call, stream
from ilf_common.rpc.status import from_status
from services.orchestrator.calls import Item, Outcome
from services.orchestrator.codec import digest_of
from services.orchestrator.convert import to_message
from services.orchestrator.models import JudgeSpec, RankerSpec
from services.orchestrator.rows import Score

_UNARY_SECONDS = 20.0
_BATCH_SECONDS = 6 * 3600.0


class RankingClient:
    """Implements `ports.Ranking`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = RankingServiceStub(channel)

    async def ranker_digest(self, ranker: RankerSpec) -> str:
        """Digest of what the server says about a ranker."""
        token = ""
        while True:
            request = pb.ListRankersRequest(page_size=1000, page_token=token)
            response = await call(self._stub.ListRankers, request, timeout=_UNARY_SECONDS)
            for found in response.rankers:
                if found.name == ranker.name:
                    return digest_of(found.SerializeToString(deterministic=True).hex())
            token = response.next_page_token
            if not token:
                raise NotFoundError(
                    f"The ranking service has no ranker {ranker.name!r}.",
                    resource_type="ranker",
                    resource_name=ranker.name,
                    reason="RANKER_NOT_FOUND",
                )

    async def rank(self, ranker: RankerSpec, items: Sequence[Item]) -> AsyncIterator[list[Outcome[tuple[Score, ...]]]]:
        """Scores the items' candidates."""
        request = pb.BatchRankRequest(
            ranker=to_message(ranker, pb.RankerSpec),
            items=[
                pb.RankItem(
                    item_id=item.item_id,
                    context=item.context,
                    initial_output=item.initial_output,
                    feedback=item.feedback,
                    candidates=item.candidates,
                )
                for item in items
            ],
        )
        async with aclosing(stream(self._stub.BatchRank, request, timeout=_BATCH_SECONDS)) as responses:
            async for response in responses:
                yield [_scores(outcome) for outcome in response.outcomes]

    async def compare(self, judges: Sequence[JudgeSpec], items: Sequence[Item]) -> AsyncIterator[list[Outcome[float]]]:
        """Probabilities that `output` is better than `other_output`."""
        request = pb.BatchCompareRequest(
            items=[
                pb.CompareItem(
                    item_id=item.item_id, context=item.context, output_a=item.output, output_b=item.other_output
                )
                for item in items
            ],
            judges=[to_message(judge, pb.JudgeSpec) for judge in judges],
        )
        async with aclosing(stream(self._stub.BatchCompare, request, timeout=_BATCH_SECONDS)) as responses:
            async for response in responses:
                yield [_probability(outcome) for outcome in response.outcomes]


def _scores(outcome: pb.RankOutcome) -> Outcome[tuple[Score, ...]]:
    if outcome.WhichOneof("outcome") == "error":
        return Outcome(outcome.item_id, error=from_status(outcome.error))
    return Outcome(outcome.item_id, tuple(_score(score) for score in outcome.result.scores))


def _score(score: pb.CandidateScore) -> Score:
    judges = tuple((judge.judge, judge.score, judge.missing_mass) for judge in score.judge_scores)
    return Score(score.score, score.spread, score.missing_mass, judges)


def _probability(outcome: pb.CompareOutcome) -> Outcome[float]:
    if outcome.WhichOneof("outcome") == "error":
        return Outcome(outcome.item_id, error=from_status(outcome.error))
    return Outcome(outcome.item_id, outcome.result.probability_a)
