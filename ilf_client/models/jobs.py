"""Finetune jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from ilf_common.errors import IlfError
from ilf_common.templates import PromptTemplate


class FinetuneKind(Enum):
    """What is trained."""

    UNSPECIFIED = "unspecified"
    SFT = "sft"
    REWARD_MODEL = "reward_model"


class JobState(Enum):
    """Where a finetune job is."""

    UNSPECIFIED = "unspecified"
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Nothing more will happen."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True)
class LoraSpec:
    """Low-rank adaptation; no target modules means all linear layers."""

    rank: int | None = None
    alpha: float | None = None
    dropout: float | None = None
    target_modules: Sequence[str] = ()


@dataclass(frozen=True)
class Hyperparameters:
    """How to train; None takes the finetune service's default, given in brackets.

    Attributes:
        learning_rate: [1e-5; 1e-4 with LoRA]
        epochs: [1]
        batch_size: Items per optimizer step, over all processes. [8]
        micro_batch_size: Items per forward pass. [batch_size]
        prompt_loss_weight: Weight of the prompt's tokens in the loss. [0]
        max_length: Longest sequence in tokens; longer rows are refused. [the model's window, at most 2048]
        warmup_ratio: Share of the steps in which the rate grows. [0]
        lr_schedule: linear, cosine or constant. [linear]
        weight_decay: [0]
        max_grad_norm: [1.0]
        seed: [0]
        lora: None finetunes all weights.
        dtype: float32 or bfloat16. [float32 on CPU, bfloat16 on GPU]
        save_steps: Steps between checkpoints. [one tenth of the run, at least 10]
        gradient_checkpointing: Less memory, more time.
    """

    learning_rate: float | None = None
    epochs: float | None = None
    batch_size: int | None = None
    micro_batch_size: int | None = None
    prompt_loss_weight: float | None = None
    max_length: int | None = None
    warmup_ratio: float | None = None
    lr_schedule: str | None = None
    weight_decay: float | None = None
    max_grad_norm: float | None = None
    seed: int | None = None
    lora: LoraSpec | None = None
    dtype: str | None = None
    save_steps: int | None = None
    gradient_checkpointing: bool = False


class RewardLoss(Enum):
    """How a reward model is trained, and so what it can say.

    BRADLEY_TERRY (default): a head of one output. YES_NO: a language model answers a question about one output, and the
    reward is the log-odds of yes. A_B: it says, asked in both orders, which of two outputs is better; it only compares.
    """

    UNSPECIFIED = "unspecified"
    BRADLEY_TERRY = "bradley_terry"
    YES_NO = "yes_no"
    A_B = "a_b"


@dataclass(frozen=True)
class RewardOptions:
    """How a reward model is trained, and on what it is measured.

    Attributes:
        loss: Default BRADLEY_TERRY.
        held_out_uri: Comparisons that are only measured on; those whose context is trained on are dropped and counted.
        held_out_share: Share of the dataset's contexts that is only measured on, at most 0.5; not with held_out_uri.
        slice_column: Column of the held-out rows whose values get a line each in the report.
    """

    loss: RewardLoss = RewardLoss.UNSPECIFIED
    held_out_uri: str = ""
    held_out_share: float = 0.0
    slice_column: str = ""


@dataclass(frozen=True)
class FinetuneSpec:
    """One training job.

    Attributes:
        kind: SFT or REWARD_MODEL.
        base_model: A checkpoint in the artifact store, a local directory that the operator allows, or a hub id.
        dataset_uri: JSONL or Parquet in the artifact store.
        output_uri: Directory in the artifact store where the checkpoint is published.
        hyperparameters: How to train.
        template: SFT: renders the context. REWARD_MODEL with YES_NO or A_B: the question; None takes the shipped one.
        merge_adapter: Merge a trained adapter into its base before publishing.
        placement: One of the placements that the operator offers by name; "" takes the default.
        reward: REWARD_MODEL only.
    """

    kind: FinetuneKind
    base_model: str
    dataset_uri: str
    output_uri: str
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    template: PromptTemplate | str | None = None
    merge_adapter: bool = False
    placement: str = ""
    reward: RewardOptions | None = None


@dataclass(frozen=True)
class LossPoint:
    """The loss of one optimizer step."""

    step: int
    loss: float


@dataclass(frozen=True)
class JobProgress:
    """How far training is. `losses` are some steps of the whole run, evenly spread; none in lists of jobs."""

    step: int = 0
    max_steps: int = 0
    loss: float = 0.0
    tokens_per_second: float = 0.0
    remaining: timedelta | None = None
    last_step_time: datetime | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    losses: Sequence[LossPoint] = ()


@dataclass(frozen=True)
class Condition:
    """Why a job is where it is."""

    type: str
    reason: str = ""
    message: str = ""
    since: datetime | None = None


@dataclass(frozen=True)
class FinetuneJob:
    """A finetune job (`jobs/<id>`) as the service last saw it."""

    name: str
    spec: FinetuneSpec
    state: JobState
    progress: JobProgress = field(default_factory=JobProgress)
    error: IlfError | None = None
    create_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    attempts: int = 0
    checkpoint_digest: str = ""
    conditions: Sequence[Condition] = ()
    request_id: str = ""
