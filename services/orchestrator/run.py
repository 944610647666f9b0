"""A run as it stands: its state, its iterations, and which changes of state there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from ilf_common.errors import FailedPreconditionError, IlfError
from services.orchestrator.models import RunSpec


class RunState(StrEnum):
    """Where a run is."""

    PENDING = "RUN_STATE_PENDING"
    RUNNING = "RUN_STATE_RUNNING"
    WAITING = "RUN_STATE_WAITING"
    SUCCEEDED = "RUN_STATE_SUCCEEDED"
    FAILED = "RUN_STATE_FAILED"
    CANCELLED = "RUN_STATE_CANCELLED"


class StageState(StrEnum):
    """Where a stage is."""

    PENDING = "STAGE_STATE_PENDING"
    RUNNING = "STAGE_STATE_RUNNING"
    SUCCEEDED = "STAGE_STATE_SUCCEEDED"
    FAILED = "STAGE_STATE_FAILED"


ENDED = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED})

TRANSITIONS: Mapping[RunState, frozenset[RunState]] = {
    RunState.PENDING: frozenset({RunState.RUNNING, RunState.FAILED, RunState.CANCELLED}),
    RunState.RUNNING: frozenset({RunState.WAITING, *ENDED}),
    RunState.WAITING: frozenset({RunState.RUNNING, *ENDED}),
    RunState.FAILED: frozenset({RunState.PENDING}),
    RunState.CANCELLED: frozenset({RunState.PENDING}),
    RunState.SUCCEEDED: frozenset(),
}
"""Which state may follow which; FAILED and CANCELLED go back to PENDING by resume."""


@dataclass(frozen=True)
class Waiting:
    """What a run waits for."""

    reason: str
    message: str
    since: datetime


@dataclass(frozen=True)
class Progress:
    """How far a piece of work is."""

    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Usage:
    """What a stage cost in tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


@dataclass(frozen=True)
class Metric:
    """A mean with its standard error over `n` items."""

    value: float
    standard_error: float = 0.0
    n: int = 0


@dataclass(frozen=True)
class StageStatus:
    """One stage of one iteration; progress counts rows (steps for finetune)."""

    stage: str
    state: StageState = StageState.PENDING
    progress: Progress = Progress()
    bad_rows: int = 0
    start_time: datetime | None = None
    end_time: datetime | None = None
    usage: Usage = Usage()


@dataclass(frozen=True)
class Iteration:
    """One round. Iteration 0 holds the evaluation before any training."""

    index: int
    stages: tuple[StageStatus, ...] = ()
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    policy: str = ""
    checkpoint_uri: str = ""
    finetune_job: str = ""


@dataclass(frozen=True)
class ErrorRecord:
    """An error as it is kept: class name in `ilf_common.errors`, reason, message, facts."""

    kind: str
    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, error: IlfError) -> ErrorRecord:
        """What is kept of an error."""
        return cls(type(error).__name__, error.reason, error.message, error.metadata)

    def to_error(self) -> IlfError:
        """An error with this reason and message, of a class that needs no more than these."""
        return FailedPreconditionError(self.message, reason=self.reason, metadata=self.metadata)


@dataclass(frozen=True)
class Plan:
    """What the door found out about the dataset.

    Attributes:
        train_rows: Rows of the training split, bad ones included.
        test_rows: Rows of the test split.
        boundaries: Upper bound (exclusive) of each iteration's context digests; see `splitting`.
        pins: Digests of everything outside that must stay what it is for the whole run, by name.
        base_model: What the first training starts from.
    """

    train_rows: int = 0
    test_rows: int = 0
    boundaries: tuple[int, ...] = ()
    pins: Mapping[str, str] = field(default_factory=dict)
    base_model: str = ""


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        id: Lower-case letters, digits and dashes.
        attempt: Raised by every resume; names the workflow and new finetune jobs.
        generation: Raised whenever the run's workflow starts to work (again): shards of older ones are reused.
        policy: The newest policy version.
    """

    id: str
    spec: RunSpec
    state: RunState
    create_time: datetime
    request_id: str = ""
    spec_digest: str = ""
    plan: Plan = Plan()
    waiting: Waiting | None = None
    error: ErrorRecord | None = None
    iterations: tuple[Iteration, ...] = ()
    end_time: datetime | None = None
    policy: str = ""
    attempt: int = 1
    resume_request_id: str = ""
    generation: int = 0

    @property
    def ended(self) -> bool:
        """Whether nothing will happen any more, unless the run is resumed."""
        return self.state in ENDED

    @property
    def name(self) -> str:
        """Resource name."""
        return f"runs/{self.id}"

    def moved_to(self, state: RunState) -> Run:
        """The run in another state.

        Raises:
            FailedPreconditionError: There is no such transition.
        """
        if state not in TRANSITIONS[self.state]:
            raise FailedPreconditionError(
                f"{self.name} is {self.state.removeprefix('RUN_STATE_')} and cannot become "
                f"{state.removeprefix('RUN_STATE_')}.",
                reason="RUN_STATE_CONFLICT",
            )
        return replace(self, state=state)

    def iteration(self, index: int) -> Iteration:
        """The iteration with an index, empty where it has not begun."""
        return next((item for item in self.iterations if item.index == index), Iteration(index))

    def with_iteration(self, iteration: Iteration) -> Run:
        """The run with one iteration replaced or added, in order."""
        others = [item for item in self.iterations if item.index != iteration.index]
        return replace(self, iterations=tuple(sorted([*others, iteration], key=lambda item: item.index)))

    def stage(self, iteration: int, stage: str) -> StageStatus:
        """The status of a stage, pending where it has not begun."""
        found = (item for item in self.iteration(iteration).stages if item.stage == stage)
        return next(found, StageStatus(stage))

    def with_stage(self, iteration: int, status: StageStatus) -> Run:
        """The run with one stage's status replaced or added, in the order of the work."""
        current = self.iteration(iteration)
        known = any(item.stage == status.stage for item in current.stages)
        stages = tuple(status if item.stage == status.stage else item for item in current.stages)
        return self.with_iteration(replace(current, stages=stages if known else (*stages, status)))
