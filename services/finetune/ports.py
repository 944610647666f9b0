"""What the service needs from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from services.finetune.models import FinetuneJob, JobFailure, Progress


class RunnerPhase(Enum):
    """Where a job's trainer is."""

    ABSENT = "absent"
    """Never started, or gone without a result."""
    WAITING = "waiting"
    """The runner has the job, but no place for it yet."""
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True)
class Observation:
    """A job's trainer as the runner sees it.

    Attributes:
        phase: Where it is.
        attempts: Times it was started.
        since: When the newest attempt was started, in seconds since the epoch.
        reason: What it waits for, for programs.
        message: What it waits for, or how the newest attempt ended.
        progress: How far it is.
        checkpoint_digest: Set when it ended well.
        failure: Set when it ended for a reason that a new start would not change.
    """

    phase: RunnerPhase
    attempts: int = 0
    since: float | None = None
    reason: str = "WAITING"
    message: str = ""
    progress: Progress = field(default_factory=Progress)
    checkpoint_digest: str = ""
    failure: JobFailure | None = None


class JobRunner(Protocol):
    """Runs trainers somewhere: as child processes, as Kubernetes Jobs.

    What a runner calls things follows from the job's id alone, and the place where the trainers run is the truth, so
    that a service that was killed finds them again.
    """

    async def open(self, changed: Callable[[str], None]) -> None:
        """Begins to look at the place where trainers run.

        Args:
            changed: May be called with the id of a job that is worth another look before its time.
        """
        ...

    async def close(self) -> None:
        """Stops looking; trainers go on."""
        ...

    async def observe(self, job: FinetuneJob) -> Observation:
        """Where the job's trainer is now."""
        ...

    async def start(self, job: FinetuneJob) -> Observation:
        """Starts a trainer, from its last checkpoint where it has one; a live one is left as it is.

        Returns:
            WAITING where there is no place for it; the service asks again.
        """
        ...

    async def stop(self, job: FinetuneJob) -> str:
        """Ends every process of the job's trainer; returns when they are gone. What it has written stays.

        Returns:
            The last lines of its log, or where they are.
        """
        ...

    async def forget(self, job: FinetuneJob) -> None:
        """Deletes what a job that has ended has left."""
        ...


class JobStore(Protocol):
    """Where jobs are written down; they outlive the service."""

    async def load(self) -> Sequence[FinetuneJob]:
        """All jobs."""
        ...

    async def add(self, job: FinetuneJob) -> FinetuneJob:
        """Writes a new job down; answers the first one where there is one with this id."""
        ...

    async def save(self, job: FinetuneJob) -> None:
        """Writes a job, whole and to the disk.

        Raises:
            AbortedError: Somebody else has written it meanwhile.
        """
        ...

    async def read(self, job_id: str) -> FinetuneJob | None:
        """A job as it is written now."""
        ...

    async def remove(self, job_id: str) -> None:
        """Deletes a job."""
        ...

    async def close(self) -> None:
        """Lets another service have the jobs."""
        ...


class Sources(Protocol):
    """The places that a spec names."""

    def resolve_base(self, name: str) -> str:
        """What a base model's name stands for: an address of the store, a directory, or a hub id.

        Raises:
            NotFoundError: reason CHECKPOINT_NOT_FOUND.
            FailedPreconditionError: reason CHECKPOINT_BROKEN.
            InvalidArgumentError: URI_OUTSIDE_STORE, or a directory or hub id that the operator does not allow.
        """
        ...

    def check_dataset(self, uri: str, field: str = "spec.dataset_uri") -> None:
        """Raises when there is no such dataset; `field` names it in the request.

        Raises:
            NotFoundError: reason DATASET_NOT_FOUND.
            InvalidArgumentError: reason URI_OUTSIDE_STORE, or no kind of file that can be read.
        """
        ...

    def resolve_output(self, uri: str) -> str:
        """The one name of an output directory, for comparing.

        Raises:
            InvalidArgumentError: reason URI_OUTSIDE_STORE.
        """
        ...


class Clock(Protocol):
    """The time of day."""

    def __call__(self) -> float:
        """Seconds since the epoch."""
        ...


@dataclass(frozen=True)
class Limits:
    """Rules that the operator sets.

    Attributes:
        max_attempts: Times a trainer is started before its job fails.
        stall_seconds: A trainer that has made no step for so long is ended and started again.
        poll_seconds: How often trainers are looked at while there are any.
        workers: Jobs that are looked at side by side; as many again that have changed.
        keep_seconds: A job is forgotten so long after its end; None keeps it.
        placements: Names that a request may give as its placement.
    """

    max_attempts: int = 3
    stall_seconds: float = 1800.0
    poll_seconds: float = 0.2
    workers: int = 1
    keep_seconds: float | None = None
    placements: frozenset[str] = frozenset()
