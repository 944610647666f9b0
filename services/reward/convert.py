"""Between the protos of `ilf.reward.v1` and the models."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf import timestamp_pb2
from google.protobuf.json_format import ParseDict
from ilf.common.v1 import common_pb2
from ilf.reward.v1 import reward_service_pb2 as pb

from ilf_common.engine.port import FinishReason, Sample
from ilf_common.errors import InternalError, require
from ilf_common.rewards.kinds import RewardLoss
from ilf_common.rewards.report import RewardReport, to_json
from ilf_common.rpc.status import to_status
from ilf_common.rpc.templates import template_from_proto
from ilf_common.templates import PromptTemplate
from services.reward.models import (
    BestOfN,
    BestOfNCall,
    CompareCall,
    CompareItem,
    EvaluateCall,
    ItemOutcome,
    ModelVersion,
    PostProcessingChoice,
    Preference,
    Reward,
    SamplingChoice,
    ScoreCall,
    ScoreItem,
    TemplateChoice,
    TrainCall,
)

_LOSSES = {
    common_pb2.REWARD_LOSS_UNSPECIFIED: RewardLoss.BRADLEY_TERRY,
    common_pb2.REWARD_LOSS_BRADLEY_TERRY: RewardLoss.BRADLEY_TERRY,
    common_pb2.REWARD_LOSS_YES_NO: RewardLoss.YES_NO,
    common_pb2.REWARD_LOSS_A_B: RewardLoss.A_B,
}
_FINISH_REASONS = {
    FinishReason.STOP: common_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: common_pb2.FINISH_REASON_LENGTH,
}


def item_from_request(request: pb.ScoreRequest) -> ScoreItem:
    """The one item of a Score request."""
    return ScoreItem("", request.context, request.output)


def batch_from_proto(request: pb.BatchScoreRequest) -> ScoreCall:
    """A batch of items."""
    items = tuple(ScoreItem(item.item_id, item.context, item.output) for item in request.items)
    return ScoreCall(tuple(request.models), items, request.normalize)


def pair_from_request(request: pb.CompareRequest) -> CompareItem:
    """The one pair of a Compare request."""
    return CompareItem("", request.context, request.output_a, request.output_b)


def pairs_from_proto(request: pb.BatchCompareRequest) -> CompareCall:
    """A batch of pairs."""
    items = tuple(CompareItem(item.item_id, item.context, item.output_a, item.output_b) for item in request.items)
    return CompareCall(tuple(request.models), items)


def evaluate_from_proto(request: pb.EvaluateRewardModelRequest) -> EvaluateCall:
    """An EvaluateRewardModel request."""
    return EvaluateCall(tuple(request.models), request.dataset_uri, request.slice_column)


def best_of_n_from_proto(request: pb.BestOfNRequest) -> BestOfNCall:
    """A BestOfN request."""
    template, options = request.template, request.post_processing
    return BestOfNCall(
        reward_models=tuple(request.reward_models),
        model=request.model,
        context=request.context,
        sampling=_sampling(request.sampling),
        template=TemplateChoice(template.name, template.text, template.target_prefix),
        post_processing=PostProcessingChoice(
            normalize_whitespace=options.normalize_whitespace,
            first_line_only=options.first_line_only,
            drop_unfinished_sentence=options.drop_unfinished_sentence,
            resample_budget=options.resample_budget,
            forbidden_substrings=tuple(options.forbidden_substrings),
        ),
    )


def train_from_proto(request: pb.TrainRewardModelRequest) -> TrainCall:
    """A TrainRewardModel request.

    Raises:
        InvalidArgumentError: No known loss, or a question that is no template.
    """
    require(request.loss in _LOSSES, "loss", "must be BRADLEY_TERRY, YES_NO or A_B")
    return TrainCall(
        request_id=request.request_id,
        base_model=request.base_model,
        dataset_uri=request.dataset_uri,
        output_uri=request.output_uri,
        learning_rate=request.learning_rate,
        epochs=request.epochs,
        batch_size=request.batch_size,
        seed=request.seed,
        max_length=request.max_length,
        lora=request.lora,
        loss=_LOSSES[request.loss],
        question=_question(request.template),
        held_out_uri=request.held_out_uri,
        held_out_share=request.held_out_share,
        slice_column=request.slice_column,
    )


def reward_to_proto(reward: Reward) -> pb.ScoreResponse:
    """The reward of one item."""
    return pb.ScoreResponse(
        reward=reward.value,
        token_count=reward.token_count,
        probability=reward.probability,
        spread=reward.spread,
        model_rewards=reward.by_model,
    )


def outcomes_to_proto(outcomes: Sequence[ItemOutcome[Reward]]) -> pb.BatchScoreResponse:
    """Outcomes that finished together."""
    return pb.BatchScoreResponse(outcomes=map(_outcome, outcomes))


def preference_to_proto(preference: Preference) -> pb.CompareResponse:
    """The preference between the outputs of one pair."""
    return pb.CompareResponse(
        probability_a=preference.probability_a, spread=preference.spread, model_probabilities=preference.by_model
    )


def preferences_to_proto(outcomes: Sequence[ItemOutcome[Preference]]) -> pb.BatchCompareResponse:
    """Comparisons that finished together."""
    return pb.BatchCompareResponse(outcomes=map(_preference, outcomes))


def report_to_proto(report: RewardReport) -> pb.RewardReport:
    """A report; its fields have the names of the message's."""
    return ParseDict(to_json(report), pb.RewardReport())


def best_of_n_to_proto(best: BestOfN) -> pb.BestOfNResponse:
    """The samples, their rewards and the chosen one."""
    return pb.BestOfNResponse(
        output=best.samples[best.chosen_index].text,
        chosen_index=best.chosen_index,
        samples=map(_sample, best.samples),
        rewards=best.rewards,
        model_version=best.model_version,
    )


def model_to_proto(version: ModelVersion) -> pb.RewardModel:
    """A loaded model."""
    card = version.card
    load_time = timestamp_pb2.Timestamp()
    load_time.FromDatetime(version.load_time)
    return pb.RewardModel(
        name=version.name,
        uri=version.uri,
        digest=version.digest,
        load_time=load_time,
        max_length=version.max_length,
        reward_mean=card.statistics.mean if card.statistics else 0.0,
        reward_std=card.statistics.std if card.statistics else 0.0,
        loss=common_pb2.RewardLoss.Value(f"REWARD_LOSS_{card.loss.name}"),
        temperature=card.temperature,
        held_out=report_to_proto(card.held_out) if card.held_out else None,
    )


def _sampling(sampling: common_pb2.SamplingParams) -> SamplingChoice:
    return SamplingChoice(
        n=sampling.n,
        temperature=sampling.temperature if sampling.HasField("temperature") else None,
        top_p=sampling.top_p if sampling.HasField("top_p") else None,
        max_new_tokens=sampling.max_new_tokens,
        seed=sampling.seed if sampling.HasField("seed") else None,
        stop=tuple(sampling.stop),
    )


def _question(template: common_pb2.PromptTemplate) -> PromptTemplate | None:
    if not template.text:
        require(not template.name, "template.text", "is empty; send the question itself, or leave the template out")
        return None
    return template_from_proto(template)


def _outcome(outcome: ItemOutcome[Reward]) -> pb.ScoreOutcome:
    if outcome.result is not None:
        return pb.ScoreOutcome(item_id=outcome.item_id, result=reward_to_proto(outcome.result))
    return pb.ScoreOutcome(item_id=outcome.item_id, error=to_status(outcome.error or _nothing()))


def _preference(outcome: ItemOutcome[Preference]) -> pb.CompareOutcome:
    if outcome.result is not None:
        return pb.CompareOutcome(item_id=outcome.item_id, result=preference_to_proto(outcome.result))
    return pb.CompareOutcome(item_id=outcome.item_id, error=to_status(outcome.error or _nothing()))


def _nothing() -> InternalError:
    return InternalError("An item has neither a result nor an error.")


def _sample(sample: Sample) -> common_pb2.Sample:
    return common_pb2.Sample(
        text=sample.text,
        token_count=sample.token_count,
        finish_reason=_FINISH_REASONS[sample.finish_reason],
        logprob=sample.logprob,
    )
