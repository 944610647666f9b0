"""Runs of the loop, and what people are asked for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from ilf_client.models.inference import CandidateScore, Usage
from ilf_client.models.specs import RunSpec
from ilf_common.errors import IlfError


class RunState(Enum):
    """Where a run is; WAITING says in `Run.waiting` what for."""

    UNSPECIFIED = "unspecified"
    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Nothing more will happen unless the run is resumed."""
        return self in (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED)


class StageState(Enum):
    """Where a stage is."""

    UNSPECIFIED = "unspecified"
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True)
class Progress:
    """So many of so many."""

    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Waiting:
    """What a run waits for, and since when."""

    reason: str
    message: str = ""
    since: datetime | None = None


@dataclass(frozen=True)
class Metric:
    """A measured value with its standard error over n items."""

    value: float
    standard_error: float = 0.0
    n: int = 0


@dataclass(frozen=True)
class StageStatus:
    """How far a stage is, in rows."""

    stage: str
    state: StageState = StageState.UNSPECIFIED
    progress: Progress = field(default_factory=Progress)
    bad_rows: int = 0
    start_time: datetime | None = None
    end_time: datetime | None = None
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Iteration:
    """One round; number 0 measures the policy before any training."""

    index: int
    stages: Sequence[StageStatus] = ()
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    policy: str = ""
    checkpoint_uri: str = ""
    finetune_job: str = ""


@dataclass(frozen=True)
class Run:
    """A run (`runs/<id>`) as the orchestrator last saw it."""

    name: str
    spec: RunSpec
    state: RunState = RunState.UNSPECIFIED
    waiting: Waiting | None = None
    error: IlfError | None = None
    iterations: Sequence[Iteration] = ()
    create_time: datetime | None = None
    end_time: datetime | None = None
    request_id: str = ""
    policy: str = ""
    spec_digest: str = ""


@dataclass(frozen=True)
class ShardExplanation:
    """Why a shard was computed or reused; `key_parts` are what its key was made of."""

    iteration: int
    stage: str
    shard: int
    key: str
    rows: int = 0
    bad_rows: int = 0
    outcome: str = ""
    key_parts: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class Candidate:
    """A refinement, its score, and its weight in the training loss."""

    text: str
    score: CandidateScore = field(default_factory=CandidateScore)
    weight: float = 0.0


@dataclass(frozen=True)
class RunSample:
    """One row of an iteration; `error` and `failed_stage` are set where it failed."""

    item_id: str
    context: str = ""
    initial_output: str = ""
    feedback: str = ""
    candidates: Sequence[Candidate] = ()
    chosen_index: int = 0
    error: IlfError | None = None
    failed_stage: str = ""

    @property
    def best_index(self) -> int | None:
        """The chosen candidate; before any was selected, as in a preview, the one with the highest score."""
        if self.error is not None or not self.candidates:
            return None
        if any(candidate.weight for candidate in self.candidates):
            return self.chosen_index
        return max(range(len(self.candidates)), key=lambda index: self.candidates[index].score.score)


class SampleOrder(Enum):
    """What samples are sorted by; score, spread, missing mass and length are those of the chosen refinement."""

    UNSPECIFIED = "unspecified"
    DATASET = "dataset"
    SCORE = "score"
    SPREAD = "spread"
    MISSING_MASS = "missing_mass"
    LENGTH = "length"


@dataclass(frozen=True)
class SampleFilter:
    """Which samples to show: those that all set conditions hold for.

    Attributes:
        text: Occurs in context, initial output, feedback or a refinement; case is ignored.
        min_score, max_score: Of the chosen refinement, inclusive.
        min_spread, max_spread: How much the judges disagree about it, inclusive.
        min_length, max_length: Its characters, inclusive.
        failed: Only rows that failed, or only those that did not.
        item_ids: Only these items.
    """

    text: str = ""
    min_score: float | None = None
    max_score: float | None = None
    min_spread: float | None = None
    max_spread: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    failed: bool | None = None
    item_ids: Sequence[str] = ()


@dataclass(frozen=True)
class SamplePage:
    """One page of samples.

    Attributes:
        samples: The rows.
        next_page_token: Of the page after it; empty on the last one.
        total_size: Rows that the filter lets through, on all pages.
    """

    samples: Sequence[RunSample] = ()
    next_page_token: str = ""
    total_size: int = 0
