"""What a finetune job is, and how it may change."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from ilf_common.rewards.kinds import RewardLoss
from ilf_common.templates import PromptTemplate

MAX_CONDITIONS = 50


class FinetuneKind(Enum):
    """What is trained."""

    SFT = "sft"
    REWARD_MODEL = "reward_model"


class JobState(Enum):
    """Where a job is."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether the job will never change again."""
        return not TRANSITIONS[self]


TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    # A trainer that died with its service may have finished before anybody saw it run.
    JobState.PENDING: frozenset({JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}),
    # Back to PENDING: the trainer died and waits for a slot to be started again.
    JobState.RUNNING: frozenset({JobState.PENDING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


@dataclass(frozen=True)
class LoraSpec:
    """A low-rank adapter.

    Attributes:
        rank: Inner dimension.
        alpha: Scale of the update; alpha / rank multiplies it. 0 means twice the rank.
        dropout: In [0, 1).
        target_modules: Names of modules to adapt; empty means all linear layers but the output layer.
    """

    rank: int
    alpha: float = 0.0
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hyperparameters:
    """How a job trains. 0, "" or None ask for the default in brackets.

    Attributes:
        learning_rate: Peak. [1e-5; 1e-4 with LoRA]
        epochs: Passes over the items, may be a fraction. [1]
        batch_size: Items per optimizer step over all processes. [8]
        micro_batch_size: Items per forward pass. [batch_size over the processes]
        prompt_loss_weight: Weight of a prompt token beside 1 for a completion token.
        max_length: Longest sequence in tokens; a job with longer rows is refused. [the model's window, at most 2048]
        warmup_ratio: Share of the steps in which the rate rises from 0.
        lr_schedule: "linear", "cosine" or "constant". ["linear"]
        weight_decay: AdamW's.
        max_grad_norm: Gradients are scaled down to this norm; 0 leaves them. None means 1.
        seed: Of data order, dropout and new weights.
        lora: None finetunes all weights.
        dtype: "float32" or "bfloat16", of computation and of the published weights. [float32 on CPU, bfloat16 on GPU]
        save_steps: Steps between checkpoints. [one tenth of the run, at least 10]
        gradient_checkpointing: Recompute activations: less memory, a third more time.
    """

    learning_rate: float = 0.0
    epochs: float = 0.0
    batch_size: int = 0
    micro_batch_size: int = 0
    prompt_loss_weight: float = 0.0
    max_length: int = 0
    warmup_ratio: float = 0.0
    lr_schedule: str = ""
    weight_decay: float = 0.0
    max_grad_norm: float | None = None
    seed: int = 0
    lora: LoraSpec | None = None
    dtype: str = ""
    save_steps: int = 0
    gradient_checkpointing: bool = False


@dataclass(frozen=True)
class RewardOptions:
    """How a reward model is trained, and on what it is measured.

    Attributes:
        loss: Decides what the model can say.
        held_out_uri: Comparisons that are only measured on; those whose context is trained on are dropped and counted.
        held_out_share: Share of the dataset's contexts that is only measured on; not with `held_out_uri`.
        slice_column: Column whose values get a line each in the report; "" makes none.
    """

    loss: RewardLoss = RewardLoss.BRADLEY_TERRY
    held_out_uri: str = ""
    held_out_share: float = 0.0
    slice_column: str = ""


@dataclass(frozen=True)
class FinetuneSpec:
    """What is asked for.

    Attributes:
        kind: What is trained.
        base_model: A checkpoint of the artifact store, an allowed local directory, or a hub id.
        dataset_uri: A JSONL or Parquet file, or a published directory of such files, in the artifact store.
        output_uri: Directory of the artifact store where the checkpoint is published.
        hyperparameters: How.
        template: Renders the context of SFT rows; a reward model's question, where None takes the shipped one.
        merge_adapter: Merge a trained adapter into its base before publishing.
        placement: One of the operator's named placements (nodes, GPUs, priority, …); "" takes the default.
        reward: Of a reward model; None for SFT.
    """

    kind: FinetuneKind
    base_model: str
    dataset_uri: str
    output_uri: str
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    template: PromptTemplate | None = None
    merge_adapter: bool = False
    placement: str = ""
    reward: RewardOptions | None = None


@dataclass(frozen=True)
class Progress:
    """How far the trainer is. Times are seconds since the epoch.

    Attributes:
        step: Optimizer steps done.
        max_steps: Steps of the whole run; 0 while unknown.
        loss: Of the last step.
        tokens_per_second: Real tokens (no padding) over the time of this attempt.
        remaining: Seconds that are left at this speed.
        last_step_time: When the last step ended; None before the first.
        metrics: Final metrics by name.
        losses: Some steps of the whole run with their losses, evenly spread.
    """

    step: int = 0
    max_steps: int = 0
    loss: float = 0.0
    tokens_per_second: float = 0.0
    remaining: float = 0.0
    last_step_time: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    losses: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Condition:
    """Why a job is where it is.

    Attributes:
        type: "Scheduled", "Running", "Stalled", "Ended".
        reason: For programs, UPPER_SNAKE.
        message: For people.
        since: Seconds since the epoch.
    """

    type: str
    reason: str
    message: str
    since: float


@dataclass(frozen=True)
class JobFailure:
    """Why a job failed: a reason for programs (BAD_DATA, OUT_OF_MEMORY, …) and a message for people."""

    reason: str
    message: str


@dataclass(frozen=True)
class FinetuneJob:
    """A job as it is known. Times are seconds since the epoch.

    Attributes:
        id: Follows from the request id, so that a repeated request finds its first job.
        spec: As it was asked for.
        base_source: What the base model's name stood for when the job was created.
        attempts: Times the trainer was started.
        cancel_requested: Somebody wants it to end; written down before its processes are ended.
        failure: Why it failed.
        checkpoint_digest: Digest of the published manifest, once it succeeded.
        conditions: Newest last; of very many the oldest are dropped.
        traceparent: The trace that the trainer's span belongs to (W3C); "" where nobody traces.
    """

    id: str
    request_id: str
    spec: FinetuneSpec
    state: JobState
    create_time: float
    base_source: str = ""
    start_time: float | None = None
    end_time: float | None = None
    attempts: int = 0
    progress: Progress = field(default_factory=Progress)
    cancel_requested: bool = False
    failure: JobFailure | None = None
    checkpoint_digest: str = ""
    conditions: tuple[Condition, ...] = ()
    traceparent: str = ""

    @property
    def name(self) -> str:
        """The resource name."""
        return f"jobs/{self.id}"

    def move(self, state: JobState, condition: Condition) -> FinetuneJob:
        """The job in another state, and why.

        Raises:
            ValueError: There is no such transition.
        """
        if state is not self.state and state not in TRANSITIONS[self.state]:
            raise ValueError(f"job {self.id} cannot go from {self.state.value} to {state.value}")
        start_time, end_time = self.start_time, self.end_time
        if state is JobState.RUNNING and start_time is None:
            start_time = condition.since
        if state.ended and not self.state.ended:
            end_time = condition.since
        return replace(self, state=state, start_time=start_time, end_time=end_time).explain(condition)

    def explain(self, condition: Condition) -> FinetuneJob:
        """The job with a condition, which takes the place of the last one when it says the same."""
        last = self.conditions[-1] if self.conditions else None
        if last is not None and (last.type, last.reason, last.message) == (
            condition.type,
            condition.reason,
            condition.message,
        ):
            return self
        return replace(self, conditions=(*self.conditions, condition)[-MAX_CONDITIONS:])


def job_id_of(request_id: str) -> str:
    """The id of the job that a request id asks for; fits the names of Kubernetes objects."""
    return "ft-" + hashlib.sha256(request_id.encode()).hexdigest()[:24]
