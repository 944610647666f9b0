"""What people are asked: feedback on outputs, and comparisons of two outputs."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb
from ilf.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceStub

from ilf_client._convert import from_proto
from ilf_client._transport import Transport, new_request_id
from ilf_client.aio.runs import run_name
from ilf_client.models.runs import ComparisonTask, ComparisonTasks, FeedbackTask, FeedbackTasks, Preference

if TYPE_CHECKING:
    from ilf.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceAsyncStub

ALL_RUNS = "runs/-"


class AsyncFeedback:
    """Lease feedback tasks and answer them."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @cached_property
    def _stub(self) -> OrchestratorServiceAsyncStub:
        return OrchestratorServiceStub(self._transport.channel("orchestrator"))

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
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> FeedbackTask:
        """Answers a task; sent again it edits one's own feedback, until the run has gone on."""
        request = pb.SubmitFeedbackRequest(
            request_id=new_request_id(request_id), name=name, annotator=annotator, feedback=feedback
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


class AsyncComparisons:
    """Lease comparison tasks and answer them; they fill the reward model's data."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @cached_property
    def _stub(self) -> OrchestratorServiceAsyncStub:
        return OrchestratorServiceStub(self._transport.channel("orchestrator"))

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
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> ComparisonTask:
        """Says which output is better."""
        request = pb.SubmitComparisonRequest(
            request_id=new_request_id(request_id),
            name=name,
            annotator=annotator,
            preference=pb.Preference.Value(f"PREFERENCE_{preference.name}"),
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
