"""Between the protos of `ilf.refinement.v1` and the models; decides nothing but the defaults that the protos name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from google.protobuf import timestamp_pb2
from ilf.common.v1 import common_pb2
from ilf.refinement.v1 import refinement_service_pb2 as pb

from ilf_common.engine.port import FinishReason, Sample, Sampling
from ilf_common.errors import InternalError
from ilf_common.rpc.status import to_status
from services.refinement.models import (
    ItemOutcome,
    LoadRequest,
    PolicyAlias,
    PolicyKind,
    PolicyState,
    PolicyView,
    PostProcessing,
    SampleCall,
    SampleItem,
    SampleResult,
    ScoreCall,
    ScoreItem,
    ScoreResult,
    Task,
    TemplateChoice,
)

ResultT = TypeVar("ResultT")

_DEFAULT_SAMPLES = {Task.REFINE: 5, Task.GENERATE: 1}
_DEFAULT_TEMPERATURE = 1.0
_DEFAULT_TOP_P = 0.95
_DEFAULT_NEW_TOKENS = 48

_FINISH_REASONS = {
    FinishReason.STOP: common_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: common_pb2.FINISH_REASON_LENGTH,
}
_KINDS = {
    PolicyKind.CHECKPOINT: pb.POLICY_KIND_CHECKPOINT,
    PolicyKind.ADAPTER: pb.POLICY_KIND_ADAPTER,
}
_STATES = {
    PolicyState.LOADING: pb.POLICY_STATE_LOADING,
    PolicyState.SERVING: pb.POLICY_STATE_SERVING,
    PolicyState.DRAINING: pb.POLICY_STATE_DRAINING,
    PolicyState.FAILED: pb.POLICY_STATE_FAILED,
    PolicyState.PARKED: pb.POLICY_STATE_PARKED,
}


def refine_call(request: pb.RefineRequest) -> SampleCall:
    """One refinement request."""
    item = SampleItem("", request.context, request.initial_output, request.feedback)
    return _sample_call(Task.REFINE, request, [item])


def batch_refine_call(request: pb.BatchRefineRequest) -> SampleCall:
    """A batch of refinement requests."""
    items = [
        SampleItem(
            item.item_id,
            item.context,
            item.initial_output,
            item.feedback,
            item.seed if item.HasField("seed") else None,
        )
        for item in request.items
    ]
    return _sample_call(Task.REFINE, request, items)


def generate_call(request: pb.GenerateRequest) -> SampleCall:
    """One request for initial outputs or feedback."""
    return _sample_call(Task.GENERATE, request, [SampleItem("", request.context, request.initial_output)])


def batch_generate_call(request: pb.BatchGenerateRequest) -> SampleCall:
    """A batch of requests for initial outputs or feedback."""
    items = [
        SampleItem(item.item_id, item.context, item.initial_output, seed=item.seed if item.HasField("seed") else None)
        for item in request.items
    ]
    return _sample_call(Task.GENERATE, request, items)


def score_text_call(request: pb.ScoreTextRequest) -> ScoreCall:
    """One text to score."""
    item = ScoreItem("", request.context, request.text, request.unfinished)
    return ScoreCall(request.model, (item,), _template(request.template))


def batch_score_text_call(request: pb.BatchScoreTextRequest) -> ScoreCall:
    """A batch of texts to score."""
    items = tuple(ScoreItem(item.item_id, item.context, item.text, item.unfinished) for item in request.items)
    return ScoreCall(request.model, items, _template(request.template))


def refine_response(result: SampleResult) -> pb.RefineResponse:
    """The refinements of one item."""
    return pb.RefineResponse(
        refinements=_samples(result.samples), usage=_usage(result), model_version=result.model_version
    )


def generate_response(result: SampleResult) -> pb.GenerateResponse:
    """The outputs of one item."""
    return pb.GenerateResponse(
        outputs=_samples(result.samples), usage=_usage(result), model_version=result.model_version
    )


def score_text_response(result: ScoreResult) -> pb.ScoreTextResponse:
    """The score of one text."""
    return pb.ScoreTextResponse(
        logprob=result.logprob, token_count=result.token_count, model_version=result.model_version
    )


def batch_refine_response(outcomes: Sequence[ItemOutcome[SampleResult]]) -> pb.BatchRefineResponse:
    """Outcomes that finished together."""
    return pb.BatchRefineResponse(
        outcomes=[
            pb.RefineOutcome(item_id=outcome.item_id, error=to_status(outcome.error))
            if outcome.error
            else pb.RefineOutcome(item_id=outcome.item_id, result=refine_response(_result(outcome)))
            for outcome in outcomes
        ]
    )


def batch_generate_response(outcomes: Sequence[ItemOutcome[SampleResult]]) -> pb.BatchGenerateResponse:
    """Outcomes that finished together."""
    return pb.BatchGenerateResponse(
        outcomes=[
            pb.GenerateOutcome(item_id=outcome.item_id, error=to_status(outcome.error))
            if outcome.error
            else pb.GenerateOutcome(item_id=outcome.item_id, result=generate_response(_result(outcome)))
            for outcome in outcomes
        ]
    )


def batch_score_text_response(outcomes: Sequence[ItemOutcome[ScoreResult]]) -> pb.BatchScoreTextResponse:
    """Outcomes that finished together."""
    return pb.BatchScoreTextResponse(
        outcomes=[
            pb.ScoreTextOutcome(item_id=outcome.item_id, error=to_status(outcome.error))
            if outcome.error
            else pb.ScoreTextOutcome(item_id=outcome.item_id, result=score_text_response(_result(outcome)))
            for outcome in outcomes
        ]
    )


def load_request(request: pb.LoadPolicyRequest) -> LoadRequest:
    """A version to load."""
    return LoadRequest(request.name, request.uri, request.base_model, request.replace, request.request_id)


def policy(view: PolicyView) -> pb.Policy:
    """A version as it stands."""
    load_time = timestamp_pb2.Timestamp()
    load_time.FromDatetime(view.policy.load_time)
    return pb.Policy(
        name=view.policy.name,
        kind=_KINDS[view.policy.kind],
        state=_STATES[view.state],
        uri=view.policy.uri,
        base_model=view.policy.base_model,
        digest=view.policy.digest,
        load_time=load_time,
        aliases=view.aliases,
        max_model_len=view.max_model_len,
        running_requests=view.running_requests,
        failure=view.failure,
        rollback_targets=view.rollback_targets,
    )


def policy_alias(alias: PolicyAlias) -> pb.PolicyAlias:
    """Where an alias points."""
    return pb.PolicyAlias(alias=alias.alias, policy=alias.policy, previous_policy=alias.previous_policy)


def _sample_call(
    task: Task,
    request: pb.RefineRequest | pb.BatchRefineRequest | pb.GenerateRequest | pb.BatchGenerateRequest,
    items: Sequence[SampleItem],
) -> SampleCall:
    wanted = request.sampling
    sampling = Sampling(
        n=wanted.n or _DEFAULT_SAMPLES[task],
        temperature=wanted.temperature if wanted.HasField("temperature") else _DEFAULT_TEMPERATURE,
        top_p=wanted.top_p if wanted.HasField("top_p") else _DEFAULT_TOP_P,
        max_new_tokens=wanted.max_new_tokens or _DEFAULT_NEW_TOKENS,
        stop=tuple(wanted.stop),
    )
    options = request.post_processing
    return SampleCall(
        task=task,
        model=request.model,
        items=tuple(items),
        sampling=sampling,
        seed=wanted.seed if wanted.HasField("seed") else None,
        template=_template(request.template),
        post_processing=PostProcessing(
            normalize_whitespace=options.normalize_whitespace,
            first_line_only=options.first_line_only,
            drop_unfinished_sentence=options.drop_unfinished_sentence,
            resample_budget=options.resample_budget,
            forbidden_substrings=tuple(options.forbidden_substrings),
        ),
    )


def _template(template: common_pb2.PromptTemplate) -> TemplateChoice:
    return TemplateChoice(template.name, template.text, template.target_prefix)


def _samples(samples: Sequence[Sample]) -> list[common_pb2.Sample]:
    return [
        common_pb2.Sample(
            text=sample.text,
            token_count=sample.token_count,
            finish_reason=_FINISH_REASONS[sample.finish_reason],
            logprob=sample.logprob,
        )
        for sample in samples
    ]


def _usage(result: SampleResult) -> common_pb2.Usage:
    return common_pb2.Usage(prompt_tokens=result.prompt_tokens, completion_tokens=result.completion_tokens)


def _result(outcome: ItemOutcome[ResultT]) -> ResultT:
    if outcome.result is None:
        raise InternalError("An item ended with neither a result nor an error.")
    return outcome.result
