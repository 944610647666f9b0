"""What people are asked: feedback on outputs, comparisons of two outputs, and reviews of refinements."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb

from ilf_client._convert import from_proto
from ilf_client._transport import collect_pages, new_request_id
from ilf_client.agreement import comparison_agreement, review_agreement
from ilf_client.aio.orchestrator import OrchestratorCalls
from ilf_client.aio.runs import run_name
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
    Verdict,
)
from ilf_common.errors import InvalidArgumentError

ALL_RUNS = "runs/-"


class AsyncFeedback(OrchestratorCalls):
    """Lease feedback tasks and answer them."""

    async def lease(
        self, annotator: str, *, run: str = ALL_RUNS, count: int = 1, timeout: float | None = None
    ) -> FeedbackTasks:
        """Leases open tasks; one's own open leases are answered first, and renewed."""
        request = pb.ListFeedbackTasksRequest(parent=run_name(run), annotator=annotator, page_size=count)
        return from_proto(await self._transport.call(self._stub.ListFeedbackTasks, request, timeout), FeedbackTasks)

    async def submit(
        self,
        name: str,
        annotator: str,
        feedback: str,
        *,
        flags: Sequence[str] = (),
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> FeedbackTask:
        """Answers a task; sent again it edits one's own feedback, until the run has gone on."""
        request = pb.SubmitFeedbackRequest(
            request_id=new_request_id(request_id),
            name=name,
            annotator=annotator,
            feedback=_whole("feedback", feedback),
            flags=flags,
        )
        return from_proto(await self._transport.call(self._stub.SubmitFeedback, request, timeout), FeedbackTask)

    async def skip(
        self, name: str, annotator: str, *, request_id: str | None = None, timeout: float | None = None
    ) -> FeedbackTask:
        """Gives a task back unanswered; this annotator will not see it again."""
        request = pb.SubmitFeedbackRequest(
            request_id=new_request_id(request_id), name=name, annotator=annotator, skip=True
        )
        return from_proto(await self._transport.call(self._stub.SubmitFeedback, request, timeout), FeedbackTask)

    async def show(self, *, run: str = ALL_RUNS, timeout: float | None = None) -> AsyncIterator[FeedbackTask]:
        """All tasks with their answers, in the order of their names; leases none."""

        async def fetch(token: str) -> pb.ListFeedbackTasksResponse:
            request = pb.ListFeedbackTasksRequest(parent=run_name(run), page_token=token)
            return await self._transport.call(self._stub.ListFeedbackTasks, request, timeout)

        async for task in collect_pages(fetch, "tasks", FeedbackTask):
            yield task


class AsyncComparisons(OrchestratorCalls):
    """Lease comparison tasks and answer them; they fill the reward model's data."""

    async def lease(
        self, annotator: str, *, run: str = ALL_RUNS, count: int = 1, timeout: float | None = None
    ) -> ComparisonTasks:
        """Leases pairs of outputs; one's own open leases are answered first, and renewed."""
        request = pb.ListComparisonTasksRequest(parent=run_name(run), annotator=annotator, page_size=count)
        response = await self._transport.call(self._stub.ListComparisonTasks, request, timeout)
        return from_proto(response, ComparisonTasks)

    async def submit(
        self,
        name: str,
        annotator: str,
        preference: Preference,
        *,
        reason: str = "",
        flags: Sequence[str] = (),
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> ComparisonTask:
        """Says which output is better, and, if wanted, why."""
        request = pb.SubmitComparisonRequest(
            request_id=new_request_id(request_id),
            name=name,
            annotator=annotator,
            preference=pb.Preference.Value(f"PREFERENCE_{preference.name}"),
            reason=_whole("reason", reason),
            flags=flags,
        )
        return from_proto(await self._transport.call(self._stub.SubmitComparison, request, timeout), ComparisonTask)

    async def skip(
        self, name: str, annotator: str, *, request_id: str | None = None, timeout: float | None = None
    ) -> ComparisonTask:
        """Gives a pair back unanswered."""
        request = pb.SubmitComparisonRequest(
            request_id=new_request_id(request_id), name=name, annotator=annotator, skip=True
        )
        return from_proto(await self._transport.call(self._stub.SubmitComparison, request, timeout), ComparisonTask)

    async def show(self, *, run: str = ALL_RUNS, timeout: float | None = None) -> AsyncIterator[ComparisonTask]:
        """All tasks with their answers, in the order of their names; leases none."""

        async def fetch(token: str) -> pb.ListComparisonTasksResponse:
            request = pb.ListComparisonTasksRequest(parent=run_name(run), page_token=token)
            return await self._transport.call(self._stub.ListComparisonTasks, request, timeout)

        async for task in collect_pages(fetch, "tasks", ComparisonTask):
            yield task


class AsyncReviews(OrchestratorCalls):
    """Lease refinements and say whether they incorporate the feedback; the labels calibrate the judges."""

    async def lease(
        self, annotator: str, *, run: str = ALL_RUNS, count: int = 1, timeout: float | None = None
    ) -> ReviewTasks:
        """Leases refinements; one's own open leases are answered first, and renewed."""
        request = pb.ListReviewTasksRequest(parent=run_name(run), annotator=annotator, page_size=count)
        return from_proto(await self._transport.call(self._stub.ListReviewTasks, request, timeout), ReviewTasks)

    async def submit(
        self,
        name: str,
        annotator: str,
        verdict: Verdict,
        *,
        flags: Sequence[str] = (),
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> ReviewTask:
        """Says whether the refinement incorporates the feedback; sent again it changes one's own verdict."""
        request = pb.SubmitReviewRequest(
            request_id=new_request_id(request_id),
            name=name,
            annotator=annotator,
            verdict=pb.Verdict.Value(f"VERDICT_{verdict.name}"),
            flags=flags,
        )
        return from_proto(await self._transport.call(self._stub.SubmitReview, request, timeout), ReviewTask)

    async def skip(
        self, name: str, annotator: str, *, request_id: str | None = None, timeout: float | None = None
    ) -> ReviewTask:
        """Gives a refinement back unanswered."""
        request = pb.SubmitReviewRequest(
            request_id=new_request_id(request_id), name=name, annotator=annotator, skip=True
        )
        return from_proto(await self._transport.call(self._stub.SubmitReview, request, timeout), ReviewTask)

    async def show(self, *, run: str = ALL_RUNS, timeout: float | None = None) -> AsyncIterator[ReviewTask]:
        """All tasks with their answers, in the order of their names; leases none."""

        async def fetch(token: str) -> pb.ListReviewTasksResponse:
            request = pb.ListReviewTasksRequest(parent=run_name(run), page_token=token)
            return await self._transport.call(self._stub.ListReviewTasks, request, timeout)

        async for task in collect_pages(fetch, "tasks", ReviewTask):
            yield task


class AsyncAnswers(OrchestratorCalls):
    """What annotators have answered, of all kinds."""

    async def latest(
        self, annotator: str, *, run: str = ALL_RUNS, count: int = 20, timeout: float | None = None
    ) -> Sequence[FeedbackTask | ComparisonTask | ReviewTask]:
        """An annotator's own answers, newest first.

        Args:
            annotator: Whose.
            run: Of one run, or of all.
            count: At most so many; 1 to 1,000.
            timeout: Seconds; None takes the client's.
        """
        request = pb.ListAnswersRequest(parent=run_name(run), annotator=annotator, page_size=count)
        response = await self._transport.call(self._stub.ListAnswers, request, timeout)
        return [_task(answer) for answer in response.answers]

    async def progress(
        self, *, annotator: str = "", run: str = ALL_RUNS, timeout: float | None = None
    ) -> AnnotationProgress:
        """How much is done and left of each kind, and how fast the annotator answers."""
        request = pb.GetAnnotationProgressRequest(parent=run_name(run), annotator=annotator)
        response = await self._transport.call(self._stub.GetAnnotationProgress, request, timeout)
        return from_proto(response, AnnotationProgress)

    async def agreement(self, *, run: str = ALL_RUNS, timeout: float | None = None) -> AnnotationAgreement:
        """How far annotators agree on the comparisons and reviews that several of them have done.

        Reads all of these tasks.

        Args:
            run: Of one run, or of all.
            timeout: Seconds for each page; None takes the client's.
        """
        comparisons, reviews = AsyncComparisons(self._transport), AsyncReviews(self._transport)
        return AnnotationAgreement(
            comparison_agreement([task async for task in comparisons.show(run=run, timeout=timeout)]),
            review_agreement([task async for task in reviews.show(run=run, timeout=timeout)]),
        )


def _whole(field: str, text: str) -> str:
    """The text, refused where it holds half of a surrogate pair, as a browser's string may: UTF-8 has no such thing."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        position = error.start
        raise InvalidArgumentError.of(
            field, f"holds half a character (U+{ord(text[position]):04X}) at position {position + 1}; take it out"
        ) from None
    return text


def _task(answer: pb.Answer) -> FeedbackTask | ComparisonTask | ReviewTask:
    match answer.WhichOneof("task"):
        case "comparison":
            return from_proto(answer.comparison, ComparisonTask)
        case "review":
            return from_proto(answer.review, ReviewTask)
        case _:
            return from_proto(answer.feedback, FeedbackTask)
