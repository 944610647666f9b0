"""A client whose tasks lie in memory: what the console's pages need of the orchestrator, without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from ilf_client.agreement import comparison_agreement, review_agreement
from ilf_client.models.runs import Progress, Run
from ilf_client.models.specs import RunSpec
from ilf_client.models.tasks import (
    AnnotationAgreement,
    AnnotationProgress,
    ComparisonTask,
    ComparisonTasks,
    FeedbackTask,
    FeedbackTasks,
    Preference,
    ReviewTask,
    ReviewTasks,
    TaskState,
    Verdict,
)
from ilf_common.errors import FailedPreconditionError, IlfError, NotFoundError

TaskT = TypeVar("TaskT", FeedbackTask, ComparisonTask, ReviewTask)
LEASE = timedelta(minutes=15)


@dataclass
class FakeTasks(Generic[TaskT]):
    """Tasks of one kind.

    Attributes:
        fault: Raised by every call while it is set.
        calls: Request ids of the answers that came.
    """

    tasks: dict[str, TaskT]
    leased: type[Any]
    skipped: set[tuple[str, str]] = field(default_factory=set)
    fault: IlfError | None = None
    calls: list[str | None] = field(default_factory=list)

    async def lease(self, annotator: str, *, run: str = "runs/-", count: int = 1) -> Any:
        self._check()
        own = [t for t in self.tasks.values() if t.state is TaskState.LEASED and t.annotator == annotator]
        free = [t for t in self.tasks.values() if t.state is TaskState.OPEN and (t.name, annotator) not in self.skipped]
        taken = []
        for task in [*own, *free][:count]:
            self._put(task, state=TaskState.LEASED, annotator=annotator, lease_expire_time=datetime.now(UTC) + LEASE)
            taken.append(self.tasks[task.name])
        return self.leased(taken, self.progress())

    async def skip(self, name: str, annotator: str, *, request_id: str | None = None) -> TaskT:
        task = self._held(name, annotator)
        self.calls.append(request_id)
        self.skipped.add((name, annotator))
        return self._put(task, state=TaskState.OPEN, annotator="", lease_expire_time=None)

    async def show(self, *, run: str = "runs/-") -> AsyncIterator[TaskT]:
        self._check()
        for task in self.tasks.values():
            yield task

    def answered(self, name: str, annotator: str, request_id: str | None, **answer: Any) -> TaskT:
        task = self._held(name, annotator)
        self.calls.append(request_id)
        return self._put(
            task,
            state=TaskState.DONE,
            lease_expire_time=None,
            answer_time=datetime.now(UTC),
            annotator=annotator,
            **answer,
        )

    def expire(self, name: str, *, to: str = "") -> None:
        """Takes a lease away, for somebody else or for nobody."""
        self._put(self.tasks[name], state=TaskState.LEASED if to else TaskState.OPEN, annotator=to)

    def progress(self) -> Progress:
        return Progress(sum(t.state is TaskState.DONE for t in self.tasks.values()), len(self.tasks))

    def _held(self, name: str, annotator: str) -> TaskT:
        self._check()
        if name not in self.tasks:
            raise NotFoundError(
                "There is no such task.", resource_type="task", resource_name=name, reason="TASK_NOT_FOUND"
            )
        task = self.tasks[name]
        if task.annotator != annotator:
            reason = "LEASE_TAKEN" if task.annotator else "LEASE_EXPIRED"
            raise FailedPreconditionError(f"{name} is not leased to {annotator}.", reason=reason)
        return task

    def _put(self, task: TaskT, **changes: Any) -> TaskT:
        self.tasks[task.name] = replace(task, **changes)
        return self.tasks[task.name]

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault


class FakeFeedback(FakeTasks[FeedbackTask]):
    async def submit(
        self, name: str, annotator: str, feedback: str, *, flags: Sequence[str] = (), request_id: str | None = None
    ) -> FeedbackTask:
        return self.answered(name, annotator, request_id, feedback=feedback, flags=tuple(flags))


class FakeComparisons(FakeTasks[ComparisonTask]):
    async def submit(
        self,
        name: str,
        annotator: str,
        preference: Preference,
        *,
        reason: str = "",
        flags: Sequence[str] = (),
        request_id: str | None = None,
    ) -> ComparisonTask:
        return self.answered(name, annotator, request_id, preference=preference, reason=reason, flags=tuple(flags))


class FakeReviews(FakeTasks[ReviewTask]):
    async def submit(
        self, name: str, annotator: str, verdict: Verdict, *, flags: Sequence[str] = (), request_id: str | None = None
    ) -> ReviewTask:
        return self.answered(name, annotator, request_id, verdict=verdict, flags=tuple(flags))


class FakeClient:
    """Six tasks of each kind, of one run.

    Args:
        text: Is put into every text that is shown.
    """

    def __init__(self, text: str = "") -> None:
        self.feedback = FakeFeedback({t.name: t for t in _feedback(text)}, FeedbackTasks)
        self.comparisons = FakeComparisons({t.name: t for t in _comparisons(text)}, ComparisonTasks)
        self.reviews = FakeReviews({t.name: t for t in _reviews(text)}, ReviewTasks)
        self.answers = FakeAnswers(self)
        self.runs = FakeRuns()

    async def __aenter__(self) -> FakeClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0)


class FakeAnswers:
    """What people have answered."""

    def __init__(self, client: FakeClient) -> None:
        self._client = client

    async def latest(
        self, annotator: str, *, run: str = "runs/-", count: int = 20
    ) -> list[FeedbackTask | ComparisonTask | ReviewTask]:
        own = [
            task
            for kind in (self._client.feedback, self._client.comparisons, self._client.reviews)
            for task in kind.tasks.values()
            if task.state is TaskState.DONE and task.annotator == annotator
        ]
        return sorted(own, key=lambda task: task.answer_time or datetime.min, reverse=True)[:count]

    async def agreement(self, *, run: str = "runs/-") -> AnnotationAgreement:
        client = self._client
        return AnnotationAgreement(
            comparison_agreement(client.comparisons.tasks.values()), review_agreement(client.reviews.tasks.values())
        )

    async def progress(self, *, annotator: str = "", run: str = "runs/-") -> AnnotationProgress:
        client = self._client
        answered = len(await self.latest(annotator, count=1000))
        return AnnotationProgress(
            client.feedback.progress(),
            client.comparisons.progress(),
            client.reviews.progress(),
            answered,
            answered,
            answered,
        )


class FakeRuns:
    """Two runs, of which one has tasks."""

    async def list(self) -> AsyncIterator[Run]:
        for name in ("summaries", "older"):
            yield Run(f"runs/{name}", RunSpec())


_GUIDELINES = """A summary is good when it says what happened, and to whom, in at most two sentences.

• Name what is wrong: a fact that is missing, a fact that is not in the post, a word too many.
• Say what it should be instead, if you know.
• Do not rewrite the whole summary."""
_CONTEXT = (
    "My roommate and I have lived together for two years. Last month she adopted a dog without asking me. "
    "I like dogs, but I work from home, and it barks through every call that I have. I asked her to take it to a "
    "trainer, she said that I should buy headphones. Our lease runs until June.\n\nHow do I bring this up again "
    "without making it worse?"
)
_OUTPUT = "My roommate adopted a dog a year ago and I want to move out. How do I tell her?"
_FEEDBACK = "The dog came last month, and nobody wants to move out. Say that it barks during calls."
_REFINEMENT = (
    "My roommate adopted a dog last month without asking, and it barks during my calls. How do I bring this up again?"
)


def _feedback(text: str) -> list[FeedbackTask]:
    return [
        FeedbackTask(
            name=f"runs/summaries/feedbackTasks/{number}",
            item_id=f"post-{number}",
            context=_CONTEXT + text,
            initial_output=_OUTPUT + text,
            state=TaskState.OPEN,
            guidelines=_GUIDELINES + text,
            nothing_to_change="No change is needed.",
            iteration=1,
        )
        for number in range(1, 7)
    ]


def _comparisons(text: str) -> list[ComparisonTask]:
    return [
        ComparisonTask(
            name=f"runs/summaries/comparisonTasks/{number}",
            item_id=f"post-{number}",
            context=_CONTEXT + text,
            output_a=_REFINEMENT + text,
            output_b=_OUTPUT + text,
            state=TaskState.OPEN,
            candidate_a=3,
            candidate_b=1,
            iteration=1,
        )
        for number in range(1, 7)
    ]


def _reviews(text: str) -> list[ReviewTask]:
    return [
        ReviewTask(
            name=f"runs/summaries/reviewTasks/{number}",
            item_id=f"post-{number}",
            context=_CONTEXT + text,
            initial_output=_OUTPUT + text,
            feedback=_FEEDBACK + text,
            refinement=_REFINEMENT + text,
            state=TaskState.OPEN,
            iteration=1,
        )
        for number in range(1, 7)
    ]
