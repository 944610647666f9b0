"""Between the protos of ranking and its models; pure."""

from __future__ import annotations

from collections.abc import Iterable

from ilf.ranking.v1 import ranking_service_pb2 as pb

from ilf_common.errors import InternalError
from ilf_common.rpc.status import to_status
from ilf_common.rpc.templates import template_to_proto
from services.ranking.models import (
    CandidateScore,
    CompareItem,
    Comparison,
    ItemOutcome,
    Judge,
    JudgeRequest,
    JudgeScore,
    RankerDescription,
    RankerRequest,
    Ranking,
    RankItem,
    TemplateRequest,
)


def ranker_from_proto(message: pb.RankerSpec) -> RankerRequest:
    """The ranker of a request."""
    return RankerRequest(
        name=message.name,
        judges=judges_from_proto(message.judges),
        seed=message.seed,
        template_set=message.template_set,
    )


def judges_from_proto(messages: Iterable[pb.JudgeSpec]) -> tuple[JudgeRequest, ...]:
    """The judges of a request."""
    return tuple(
        JudgeRequest(
            name=message.name,
            model=message.model,
            template=TemplateRequest(
                name=message.template.name,
                text=message.template.text,
                target_prefix=message.template.target_prefix,
                positive_answers=tuple(message.template.positive_answers),
                negative_answers=tuple(message.template.negative_answers),
            ),
        )
        for message in messages
    )


def item_from_request(message: pb.RankRequest) -> RankItem:
    """The item of a unary request, which has no id."""
    return RankItem("", message.context, message.initial_output, message.feedback, tuple(message.candidates))


def items_from_proto(messages: Iterable[pb.RankItem]) -> list[RankItem]:
    """The items of a batch."""
    return [RankItem(m.item_id, m.context, m.initial_output, m.feedback, tuple(m.candidates)) for m in messages]


def pair_from_request(message: pb.CompareRequest) -> CompareItem:
    """The pair of a unary request, which has no id."""
    return CompareItem("", message.context, message.output_a, message.output_b)


def pairs_from_proto(messages: Iterable[pb.CompareItem]) -> list[CompareItem]:
    """The pairs of a batch."""
    return [CompareItem(m.item_id, m.context, m.output_a, m.output_b) for m in messages]


def ranking_to_proto(ranking: Ranking) -> pb.RankResponse:
    """A ranking for the wire."""
    return pb.RankResponse(
        scores=[_candidate_score(score) for score in ranking.scores],
        chosen_index=ranking.chosen_index,
        ranker=ranking.ranker,
    )


def rankings_to_proto(outcomes: Iterable[ItemOutcome[Ranking]]) -> pb.BatchRankResponse:
    """Outcomes that finished together."""
    return pb.BatchRankResponse(outcomes=[_rank_outcome(outcome) for outcome in outcomes])


def comparison_to_proto(comparison: Comparison) -> pb.CompareResponse:
    """A comparison for the wire."""
    return pb.CompareResponse(
        probability_a=comparison.probability_a,
        position_bias=comparison.position_bias,
        judge_scores=[_judge_score(score) for score in comparison.judge_scores],
        missing_mass=comparison.missing_mass,
    )


def comparisons_to_proto(outcomes: Iterable[ItemOutcome[Comparison]]) -> pb.BatchCompareResponse:
    """Outcomes that finished together."""
    return pb.BatchCompareResponse(outcomes=[_compare_outcome(outcome) for outcome in outcomes])


def ranker_to_proto(ranker: RankerDescription) -> pb.Ranker:
    """A ranker of the server."""
    return pb.Ranker(
        name=ranker.name, description=ranker.description, judges=[_judge_to_proto(judge) for judge in ranker.judges]
    )


def _rank_outcome(outcome: ItemOutcome[Ranking]) -> pb.RankOutcome:
    if outcome.value is not None:
        return pb.RankOutcome(item_id=outcome.item_id, result=ranking_to_proto(outcome.value))
    return pb.RankOutcome(item_id=outcome.item_id, error=to_status(outcome.error or _neither()))


def _compare_outcome(outcome: ItemOutcome[Comparison]) -> pb.CompareOutcome:
    if outcome.value is not None:
        return pb.CompareOutcome(item_id=outcome.item_id, result=comparison_to_proto(outcome.value))
    return pb.CompareOutcome(item_id=outcome.item_id, error=to_status(outcome.error or _neither()))


def _candidate_score(score: CandidateScore) -> pb.CandidateScore:
    return pb.CandidateScore(
        score=score.score,
        judge_scores=[_judge_score(one) for one in score.judge_scores],
        spread=score.spread,
        missing_mass=score.missing_mass,
    )


def _judge_score(score: JudgeScore) -> pb.JudgeScore:
    return pb.JudgeScore(judge=score.judge, score=score.score, missing_mass=score.missing_mass)


def _judge_to_proto(judge: Judge) -> pb.JudgeSpec:
    return pb.JudgeSpec(name=judge.name, model=judge.model, template=template_to_proto(judge.template))


def _neither() -> InternalError:
    return InternalError("The item has neither a value nor an error.")
