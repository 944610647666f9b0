"""Between the messages of `ilf.finetune.v1` and the models; pure functions."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from ilf.common.v1 import common_pb2
from ilf.finetune.v1 import finetune_service_pb2 as pb

from ilf_common.errors import (
    FailedPreconditionError,
    IlfError,
    InternalError,
    InvalidArgumentError,
    ResourceExhaustedError,
    require,
)
from ilf_common.rewards.kinds import RewardLoss
from ilf_common.rpc.status import to_status
from ilf_common.rpc.templates import template_from_proto, template_to_proto
from services.finetune.models import (
    Condition,
    FinetuneJob,
    FinetuneKind,
    FinetuneSpec,
    Hyperparameters,
    JobFailure,
    JobState,
    LoraSpec,
    Progress,
    RewardOptions,
)

_KINDS = {
    pb.FINETUNE_KIND_SFT: FinetuneKind.SFT,
    pb.FINETUNE_KIND_REWARD_MODEL: FinetuneKind.REWARD_MODEL,
}
_LOSSES = {
    common_pb2.REWARD_LOSS_UNSPECIFIED: RewardLoss.BRADLEY_TERRY,
    common_pb2.REWARD_LOSS_BRADLEY_TERRY: RewardLoss.BRADLEY_TERRY,
    common_pb2.REWARD_LOSS_YES_NO: RewardLoss.YES_NO,
    common_pb2.REWARD_LOSS_A_B: RewardLoss.A_B,
}
_STATES = {
    JobState.PENDING: pb.FINETUNE_JOB_STATE_PENDING,
    JobState.RUNNING: pb.FINETUNE_JOB_STATE_RUNNING,
    JobState.SUCCEEDED: pb.FINETUNE_JOB_STATE_SUCCEEDED,
    JobState.FAILED: pb.FINETUNE_JOB_STATE_FAILED,
    JobState.CANCELLED: pb.FINETUNE_JOB_STATE_CANCELLED,
}
_ERRORS: dict[str, type[IlfError]] = {
    "BAD_DATA": InvalidArgumentError,
    "BAD_CONFIG": InvalidArgumentError,
    "OUT_OF_MEMORY": ResourceExhaustedError,
    "NAN_LOSS": FailedPreconditionError,
    "LOAD_TEST_FAILED": FailedPreconditionError,
}


def spec_of(request: pb.CreateFinetuneJobRequest) -> FinetuneSpec:
    """The spec of a request.

    Raises:
        InvalidArgumentError: No known kind, or a template with unknown placeholders.
    """
    spec = request.spec
    kind = _KINDS.get(spec.kind)
    require(kind is not None, "spec.kind", "must be FINETUNE_KIND_SFT or FINETUNE_KIND_REWARD_MODEL")
    assert kind is not None
    rewards = kind is FinetuneKind.REWARD_MODEL
    require(rewards or not spec.HasField("reward"), "spec.reward", "is only for FINETUNE_KIND_REWARD_MODEL")
    return FinetuneSpec(
        kind=kind,
        base_model=spec.base_model,
        dataset_uri=spec.dataset_uri,
        output_uri=spec.output_uri,
        hyperparameters=_hyperparameters(spec.hyperparameters),
        template=template_from_proto(spec.template) if spec.template.text else None,
        merge_adapter=spec.merge_adapter,
        placement=spec.placement,
        reward=_reward(spec.reward) if rewards else None,
    )


def _reward(message: pb.RewardOptions) -> RewardOptions:
    require(message.loss in _LOSSES, "spec.reward.loss", "must be BRADLEY_TERRY, YES_NO or A_B")
    return RewardOptions(_LOSSES[message.loss], message.held_out_uri, message.held_out_share, message.slice_column)


def _hyperparameters(message: pb.Hyperparameters) -> Hyperparameters:
    lora = message.lora
    return Hyperparameters(
        learning_rate=message.learning_rate,
        epochs=message.epochs,
        batch_size=message.batch_size,
        micro_batch_size=message.micro_batch_size,
        prompt_loss_weight=message.prompt_loss_weight,
        max_length=message.max_length,
        warmup_ratio=message.warmup_ratio,
        lr_schedule=message.lr_schedule,
        weight_decay=message.weight_decay,
        max_grad_norm=message.max_grad_norm if message.HasField("max_grad_norm") else None,
        seed=message.seed,
        lora=LoraSpec(lora.rank, lora.alpha, lora.dropout, tuple(lora.target_modules))
        if message.HasField("lora")
        else None,
        dtype=message.dtype,
        save_steps=message.save_steps,
        gradient_checkpointing=message.gradient_checkpointing,
    )


def to_proto(job: FinetuneJob) -> pb.FinetuneJob:
    """A job as a message."""
    return pb.FinetuneJob(
        name=job.name,
        spec=_spec_message(job.spec),
        state=_STATES[job.state],
        progress=_progress_message(job.progress),
        error=to_status(_error(job.failure)) if job.failure else None,
        create_time=_timestamp(job.create_time),
        start_time=_timestamp(job.start_time),
        end_time=_timestamp(job.end_time),
        attempts=job.attempts,
        checkpoint_digest=job.checkpoint_digest,
        conditions=[_condition_message(condition) for condition in job.conditions],
        request_id=job.request_id,
    )


def _error(failure: JobFailure) -> IlfError:
    return _ERRORS.get(failure.reason, InternalError)(failure.message, reason=failure.reason)


def _spec_message(spec: FinetuneSpec) -> pb.FinetuneSpec:
    kinds = {kind: value for value, kind in _KINDS.items()}
    template = spec.template
    return pb.FinetuneSpec(
        kind=kinds[spec.kind],
        base_model=spec.base_model,
        dataset_uri=spec.dataset_uri,
        output_uri=spec.output_uri,
        hyperparameters=_hyperparameters_message(spec.hyperparameters),
        template=template_to_proto(template) if template else None,
        merge_adapter=spec.merge_adapter,
        placement=spec.placement,
        reward=_reward_message(spec.reward) if spec.reward else None,
    )


def _reward_message(options: RewardOptions) -> pb.RewardOptions:
    return pb.RewardOptions(
        loss=common_pb2.RewardLoss.Value(f"REWARD_LOSS_{options.loss.name}"),
        held_out_uri=options.held_out_uri,
        held_out_share=options.held_out_share,
        slice_column=options.slice_column,
    )


def _hyperparameters_message(values: Hyperparameters) -> pb.Hyperparameters:
    lora = values.lora
    return pb.Hyperparameters(
        learning_rate=values.learning_rate,
        epochs=values.epochs,
        batch_size=values.batch_size,
        micro_batch_size=values.micro_batch_size,
        prompt_loss_weight=values.prompt_loss_weight,
        max_length=values.max_length,
        warmup_ratio=values.warmup_ratio,
        lr_schedule=values.lr_schedule,
        weight_decay=values.weight_decay,
        max_grad_norm=values.max_grad_norm,
        seed=values.seed,
        lora=pb.LoraSpec(rank=lora.rank, alpha=lora.alpha, dropout=lora.dropout, target_modules=lora.target_modules)
        if lora
        else None,
        dtype=values.dtype,
        save_steps=values.save_steps,
        gradient_checkpointing=values.gradient_checkpointing,
    )


def _progress_message(progress: Progress) -> pb.FinetuneProgress:
    remaining = Duration()
    remaining.FromMilliseconds(round(progress.remaining * 1000))
    return pb.FinetuneProgress(
        step=progress.step,
        max_steps=progress.max_steps,
        loss=progress.loss,
        tokens_per_second=progress.tokens_per_second,
        remaining=remaining,
        last_step_time=_timestamp(progress.last_step_time),
        metrics=dict(progress.metrics),
        losses=[pb.LossPoint(step=step, loss=loss) for step, loss in progress.losses],
    )


def _condition_message(condition: Condition) -> pb.Condition:
    return pb.Condition(
        type=condition.type,
        reason=condition.reason,
        message=condition.message,
        since=_timestamp(condition.since),
    )


def _timestamp(seconds: float | None) -> Timestamp | None:
    if seconds is None:
        return None
    timestamp = Timestamp()
    timestamp.FromMilliseconds(round(seconds * 1000))
    return timestamp
