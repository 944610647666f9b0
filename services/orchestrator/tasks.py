"""Tasks that people do for a run: feedback on an output, a preference between two, a review of a refinement."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from ilf_common.errors import FailedPreconditionError
from services.orchestrator.resolve import RUN_ID

_TASK_ID = re.compile(r"[0-9a-z-]{1,40}")
_KEPT_REQUESTS = 16


class TaskKind(StrEnum):
    """What a person is asked."""

    FEEDBACK = "feedback"
    COMPARISON = "comparison"
    REVIEW = "review"


class TaskState(StrEnum):
    """Where a task is."""

    OPEN = "TASK_STATE_OPEN"
    LEASED = "TASK_STATE_LEASED"
    DONE = "TASK_STATE_DONE"
    SKIPPED = "TASK_STATE_SKIPPED"


@dataclass(frozen=True)
class Answer:
    """What a person says to a task.

    Attributes:
        text: The feedback, or the name of the preference or verdict.
        reason: COMPARISON: why, in the annotator's words.
        flags: What the annotator marks the task with.
    """

    text: str
    reason: str = ""
    flags: tuple[str, ...] = ()


NO_ANSWER = Answer("")


@dataclass(frozen=True)
class Task:
    """One question to one person.

    Attributes:
        id: Unique in its run; sorts in the order of the rows.
        group: Tasks of one group ask different people about the same item.
        iteration, shard: Which rows the task belongs to.
        text_a: The initial output (FEEDBACK, REVIEW) or the first sample.
        text_b: The second sample (COMPARISON) or the refinement (REVIEW).
        feedback: What the refinement is to incorporate (REVIEW).
        candidate_a: Which refinement of the item is the first sample (COMPARISON); -1 where that was not recorded.
        candidate_b: Which refinement the second sample is (COMPARISON), or the one to review (REVIEW).
        lease_seconds: How long the task stays with one annotator.
        closed: The run has gone on; answers are final.
        requests: Marks of the last answers and skips that were taken, oldest first.
    """

    kind: TaskKind
    run_id: str
    id: str
    group: str
    iteration: int
    shard: int
    item_id: str
    context: str
    text_a: str
    text_b: str = ""
    feedback: str = ""
    candidate_a: int = -1
    candidate_b: int = -1
    lease_seconds: float = 900.0
    state: TaskState = TaskState.OPEN
    annotator: str = ""
    lease_expire_time: datetime | None = None
    answer: Answer = field(default=NO_ANSWER)
    answer_time: datetime | None = None
    closed: bool = False
    requests: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Resource name."""
        return f"runs/{self.run_id}/{self.kind}Tasks/{self.id}"

    def leased_to(self, annotator: str, now: datetime) -> Task:
        """The task in the hands of an annotator."""
        expires = now + timedelta(seconds=self.lease_seconds)
        return replace(self, state=TaskState.LEASED, annotator=annotator, lease_expire_time=expires)

    def answered(self, annotator: str, answer: Answer, now: datetime, request_id: str = "") -> Task:
        """The task with an answer; the annotator's own answer may be replaced until the run has gone on.

        A request that was taken before changes nothing, whatever was answered since.

        Raises:
            FailedPreconditionError: TASK_DONE, LEASE_TAKEN or LEASE_EXPIRED.
        """
        if self._has_taken(annotator, request_id):
            return self
        if self.state is TaskState.DONE and self.annotator == annotator and self.answer == answer:
            return self._taking(annotator, request_id)
        self._check_holder(annotator, now)
        task = replace(self, state=TaskState.DONE, answer=answer, answer_time=now, lease_expire_time=None)
        return task._taking(annotator, request_id)

    def given_back(self, annotator: str, now: datetime, request_id: str = "") -> Task:
        """The task open again, for others; a request that was taken before changes nothing.

        Raises:
            FailedPreconditionError: As `answered`.
        """
        if self._has_taken(annotator, request_id):
            return self
        self._check_holder(annotator, now)
        task = replace(
            self, state=TaskState.OPEN, annotator="", lease_expire_time=None, answer=NO_ANSWER, answer_time=None
        )
        return task._taking(annotator, request_id)

    def _has_taken(self, annotator: str, request_id: str) -> bool:
        return bool(request_id) and _mark(annotator, request_id) in self.requests

    def _taking(self, annotator: str, request_id: str) -> Task:
        """The task that knows the request when it comes again."""
        if not request_id:
            return self
        return replace(self, requests=(*self.requests, _mark(annotator, request_id))[-_KEPT_REQUESTS:])

    def _check_holder(self, annotator: str, now: datetime) -> None:
        if self.closed or (self.state is TaskState.DONE and self.annotator != annotator):
            raise self._refused("TASK_DONE", "is done: its run has gone on, or somebody else has answered it")
        if self.state is TaskState.OPEN:
            raise self._refused("LEASE_EXPIRED", "is leased by nobody; lease it by listing tasks")
        if self.annotator != annotator:
            raise self._refused("LEASE_TAKEN", "is leased to somebody else; list tasks to get another one")
        if self.state is TaskState.LEASED and self.lease_expire_time is not None and self.lease_expire_time <= now:
            raise self._refused("LEASE_EXPIRED", "was leased for too long; lease it again by listing tasks")

    def _refused(self, reason: str, why: str) -> FailedPreconditionError:
        return FailedPreconditionError(f"{self.name} {why}.", reason=reason, metadata={"resource": self.name})


def _mark(annotator: str, request_id: str) -> str:
    """Of one annotator's request; short, however long its id is."""
    return hashlib.sha256(f"{annotator}\n{request_id}".encode()).hexdigest()[:32]


def parent_run(parent: str) -> str | None:
    """The run id in "runs/<id>", "" for "runs/-" (all runs), None where the name is of another form."""
    prefix, _, run_id = parent.partition("/")
    if prefix != "runs":
        return None
    if run_id == "-":
        return ""
    return run_id if RUN_ID.fullmatch(run_id) else None


def parse_task_name(kind: TaskKind, name: str) -> tuple[str, str] | None:
    """Run id and task id of a task's name, None where the name is of another form."""
    parts = name.split("/")
    if len(parts) != 4 or parts[0] != "runs" or parts[2] != f"{kind}Tasks":
        return None
    return (parts[1], parts[3]) if RUN_ID.fullmatch(parts[1]) and _TASK_ID.fullmatch(parts[3]) else None
