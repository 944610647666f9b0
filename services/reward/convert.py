"""Between the protos of `ilf.reward.v1` and the models."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf import timestamp_pb2
from ilf.common.v1 import common_pb2
from ilf.reward.v1 import reward_service_pb2 as pb

from ilf_common.engine.port import FinishReason, Sample
from ilf_common.errors import InternalError
from ilf_common.rpc.status import to_status
from services.reward.models import (
    BestOfN,
    BestOfNCall,
    ItemOutcome,
    ModelVersion,
    PostProcessingChoice,
    Reward,
    SamplingChoice,
    ScoreCall,
    ScoreItem,
    TemplateChoice,
    TrainCall,
)

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
    return ScoreCall(request.model, items, request.normalize)


def best_of_n_from_proto(request: pb.BestOfNRequest) -> BestOfNCall:
    """A BestOfN request."""
    template, options = request.template, request.post_processing
    return BestOfNCall(
        reward_model=request.reward_model,
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
    """A TrainRewardModel request."""
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
    )


def reward_to_proto(reward: Reward) -> pb.ScoreResponse:
    """The reward of one item."""
    return pb.ScoreResponse(reward=reward.value, token_count=reward.token_count)


def outcomes_to_proto(outcomes: Sequence[ItemOutcome]) -> pb.BatchScoreResponse:
    """Outcomes that finished together."""
    return pb.BatchScoreResponse(outcomes=map(_outcome, outcomes))


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
    load_time = timestamp_pb2.Timestamp()
    load_time.FromDatetime(version.load_time)
    return pb.RewardModel(
        name=version.name,
        uri=version.uri,
        digest=version.digest,
        load_time=load_time,
        max_length=version.max_length,
        reward_mean=version.statistics.mean if version.statistics else 0.0,
        reward_std=version.statistics.std if version.statistics else 0.0,
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


def _outcome(outcome: ItemOutcome) -> pb.ScoreOutcome:
    if outcome.reward is not None:
        return pb.ScoreOutcome(item_id=outcome.item_id, result=reward_to_proto(outcome.reward))
    error = outcome.error or InternalError("An item has neither a reward nor an error.")
    return pb.ScoreOutcome(item_id=outcome.item_id, error=to_status(error))


def _sample(sample: Sample) -> common_pb2.Sample:
    return common_pb2.Sample(
        text=sample.text,
        token_count=sample.token_count,
        finish_reason=_FINISH_REASONS[sample.finish_reason],
        logprob=sample.logprob,
    )
