"""The gRPC face of the orchestrator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from ilf.common.v1 import common_pb2
from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb
from ilf.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceServicer

from ilf_common.rpc.pagination import page
from services.orchestrator.browse import explain, matching, newest_first
from services.orchestrator.convert import (
    explanation_to_proto,
    pool_to_proto,
    run_states_from_proto,
    run_to_proto,
    sample_query_from_proto,
    sample_to_proto,
    spec_from_proto,
)
from services.orchestrator.convert_tasks import (
    answer_to_proto,
    comparison_task_to_proto,
    feedback_task_to_proto,
    name_of,
    review_task_to_proto,
)
from services.orchestrator.models import RunSpec
from services.orchestrator.people import PeopleService
from services.orchestrator.pools.board import PoolBoard
from services.orchestrator.ports import ShardStore
from services.orchestrator.resolve import run_id_of
from services.orchestrator.samples import SampleBrowser
from services.orchestrator.service import RunService
from services.orchestrator.tasks import Answer, Task, TaskKind


class OrchestratorServicer(OrchestratorServiceServicer):
    """Converts, calls one use case, converts back."""

    def __init__(
        self, runs: RunService, people: PeopleService, shards: ShardStore, samples: SampleBrowser, pools: PoolBoard
    ) -> None:
        self._runs = runs
        self._people = people
        self._shards = shards
        self._samples = samples
        self._pools = pools

    async def CreateRun(self, request: pb.CreateRunRequest, context: Any) -> pb.Run:  # noqa: D102
        run = await self._runs.create(
            request.request_id, request.run_id, spec_from_proto(request.spec), validate_only=request.validate_only
        )
        return run_to_proto(run)

    async def GetRun(self, request: pb.GetRunRequest, context: Any) -> pb.Run:  # noqa: D102
        return run_to_proto(await self._runs.get(run_id_of(request.name)))

    async def ListRuns(self, request: pb.ListRunsRequest, context: Any) -> pb.ListRunsResponse:  # noqa: D102
        runs = matching(await self._runs.all_runs(), run_states_from_proto(request.states), request.text)
        runs, token = page(runs, request.page_size, request.page_token, key=newest_first)
        return pb.ListRunsResponse(runs=[run_to_proto(run) for run in runs], next_page_token=token)

    async def CancelRun(self, request: pb.CancelRunRequest, context: Any) -> pb.Run:  # noqa: D102
        return run_to_proto(await self._runs.cancel(run_id_of(request.name)))

    async def ResumeRun(self, request: pb.ResumeRunRequest, context: Any) -> pb.Run:  # noqa: D102
        return run_to_proto(await self._runs.resume(request.request_id, run_id_of(request.name)))

    async def WatchRun(  # noqa: D102
        self, request: pb.WatchRunRequest, context: Any
    ) -> AsyncIterator[pb.WatchRunResponse]:
        async for run in self._runs.watch(run_id_of(request.name)):
            yield pb.WatchRunResponse(run=run_to_proto(run))

    async def ExplainRun(self, request: pb.ExplainRunRequest, context: Any) -> pb.ExplainRunResponse:  # noqa: D102
        run = await self._runs.get(run_id_of(request.name))
        shards, token = await explain(self._shards, run, request.page_size, request.page_token)
        return pb.ExplainRunResponse(shards=[explanation_to_proto(shard) for shard in shards], next_page_token=token)

    async def ListSamples(  # noqa: D102
        self, request: pb.ListSamplesRequest, context: Any
    ) -> pb.ListSamplesResponse:
        run = await self._runs.get(run_id_of(request.parent, field="parent"))
        query = sample_query_from_proto(request)
        found = await self._samples.page(run, request.iteration, query, request.page_size, request.page_token)
        return pb.ListSamplesResponse(
            samples=[sample_to_proto(row) for row in found.rows],
            next_page_token=found.next_token,
            total_size=found.total,
        )

    async def ListFeedbackTasks(  # noqa: D102
        self, request: pb.ListFeedbackTasksRequest, context: Any
    ) -> pb.ListFeedbackTasksResponse:
        found = await self._people.list_tasks(
            TaskKind.FEEDBACK, request.parent, request.annotator, request.page_size, request.page_token
        )
        return pb.ListFeedbackTasksResponse(
            tasks=[feedback_task_to_proto(task, found.specs.get(task.run_id)) for task in found.tasks],
            next_page_token=found.next_page_token,
            progress=common_pb2.Progress(done=found.done, total=found.total),
        )

    async def SubmitFeedback(self, request: pb.SubmitFeedbackRequest, context: Any) -> pb.FeedbackTask:  # noqa: D102
        answer = Answer(request.feedback, flags=tuple(request.flags))
        return feedback_task_to_proto(*await self._submit(TaskKind.FEEDBACK, request, answer))

    async def ListComparisonTasks(  # noqa: D102
        self, request: pb.ListComparisonTasksRequest, context: Any
    ) -> pb.ListComparisonTasksResponse:
        found = await self._people.list_tasks(
            TaskKind.COMPARISON, request.parent, request.annotator, request.page_size, request.page_token
        )
        return pb.ListComparisonTasksResponse(
            tasks=[comparison_task_to_proto(task, found.specs.get(task.run_id)) for task in found.tasks],
            next_page_token=found.next_page_token,
            progress=common_pb2.Progress(done=found.done, total=found.total),
        )

    async def SubmitComparison(  # noqa: D102
        self, request: pb.SubmitComparisonRequest, context: Any
    ) -> pb.ComparisonTask:
        answer = Answer(name_of(pb.Preference, request.preference), request.reason, tuple(request.flags))
        return comparison_task_to_proto(*await self._submit(TaskKind.COMPARISON, request, answer))

    async def ListReviewTasks(  # noqa: D102
        self, request: pb.ListReviewTasksRequest, context: Any
    ) -> pb.ListReviewTasksResponse:
        found = await self._people.list_tasks(
            TaskKind.REVIEW, request.parent, request.annotator, request.page_size, request.page_token
        )
        return pb.ListReviewTasksResponse(
            tasks=[review_task_to_proto(task, found.specs.get(task.run_id)) for task in found.tasks],
            next_page_token=found.next_page_token,
            progress=common_pb2.Progress(done=found.done, total=found.total),
        )

    async def SubmitReview(self, request: pb.SubmitReviewRequest, context: Any) -> pb.ReviewTask:  # noqa: D102
        answer = Answer(name_of(pb.Verdict, request.verdict), flags=tuple(request.flags))
        return review_task_to_proto(*await self._submit(TaskKind.REVIEW, request, answer))

    async def _submit(self, kind: TaskKind, request: Any, answer: Answer) -> tuple[Task, RunSpec]:
        if request.skip:
            return await self._people.skip(kind, request.name, request.annotator, answer.flags, request.request_id)
        return await self._people.submit(kind, request.name, request.annotator, answer, request.request_id)

    async def ListAnswers(self, request: pb.ListAnswersRequest, context: Any) -> pb.ListAnswersResponse:  # noqa: D102
        found = await self._people.answers(request.parent, request.annotator, request.page_size, request.page_token)
        answers = [answer_to_proto(task, found.specs[task.run_id]) for task in found.tasks]
        return pb.ListAnswersResponse(answers=answers, next_page_token=found.next_page_token)

    async def GetAnnotationProgress(  # noqa: D102
        self, request: pb.GetAnnotationProgressRequest, context: Any
    ) -> pb.AnnotationProgress:
        counts, pace = await self._people.progress(request.parent, request.annotator)
        progress = {kind.value: common_pb2.Progress(done=done, total=total) for kind, (done, total) in counts.items()}
        return pb.AnnotationProgress(
            **progress,
            answered=pace.answered,
            answered_last_day=pace.last_day,
            answered_last_hour=pace.last_hour,
        )

    async def ListPools(self, request: pb.ListPoolsRequest, context: Any) -> pb.ListPoolsResponse:  # noqa: D102
        views, token = page(
            self._pools.views(), request.page_size, request.page_token, key=lambda view: view.rules.name
        )
        return pb.ListPoolsResponse(pools=[pool_to_proto(view) for view in views], next_page_token=token)
