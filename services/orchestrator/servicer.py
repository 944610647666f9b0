"""The gRPC face of the orchestrator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from ilf.common.v1 import common_pb2
from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb
from ilf.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceServicer

from ilf_common.rpc.pagination import page
from services.orchestrator.browse import explain, samples
from services.orchestrator.convert import (
    comparison_task_to_proto,
    explanation_to_proto,
    feedback_task_to_proto,
    pool_to_proto,
    run_to_proto,
    sample_to_proto,
    spec_from_proto,
)
from services.orchestrator.people import PeopleService
from services.orchestrator.pools.board import PoolBoard
from services.orchestrator.ports import ShardStore
from services.orchestrator.resolve import run_id_of
from services.orchestrator.service import RunService
from services.orchestrator.tasks import TaskKind


class OrchestratorServicer(OrchestratorServiceServicer):
    """Converts, calls one use case, converts back."""

    def __init__(self, runs: RunService, people: PeopleService, shards: ShardStore, pools: PoolBoard) -> None:
        self._runs = runs
        self._people = people
        self._shards = shards
        self._pools = pools

    async def CreateRun(self, request: pb.CreateRunRequest, context: Any) -> pb.Run:  # noqa: D102
        run = await self._runs.create(
            request.request_id, request.run_id, spec_from_proto(request.spec), validate_only=request.validate_only
        )
        return run_to_proto(run)

    async def GetRun(self, request: pb.GetRunRequest, context: Any) -> pb.Run:  # noqa: D102
        return run_to_proto(await self._runs.get(run_id_of(request.name)))

    async def ListRuns(self, request: pb.ListRunsRequest, context: Any) -> pb.ListRunsResponse:  # noqa: D102
        runs, token = page(await self._runs.all_runs(), request.page_size, request.page_token, key=lambda run: run.name)
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
        rows, token = await samples(self._shards, run, request.iteration, request.page_size, request.page_token)
        return pb.ListSamplesResponse(samples=[sample_to_proto(row) for row in rows], next_page_token=token)

    async def ListFeedbackTasks(  # noqa: D102
        self, request: pb.ListFeedbackTasksRequest, context: Any
    ) -> pb.ListFeedbackTasksResponse:
        tasks, token, (done, total) = await self._people.list_tasks(
            TaskKind.FEEDBACK, request.parent, request.annotator, request.page_size, request.page_token
        )
        return pb.ListFeedbackTasksResponse(
            tasks=[feedback_task_to_proto(task) for task in tasks],
            next_page_token=token,
            progress=common_pb2.Progress(done=done, total=total),
        )

    async def SubmitFeedback(self, request: pb.SubmitFeedbackRequest, context: Any) -> pb.FeedbackTask:  # noqa: D102
        task = await self._people.submit(
            TaskKind.FEEDBACK, request.name, request.annotator, request.feedback, skip=request.skip
        )
        return feedback_task_to_proto(task)

    async def ListComparisonTasks(  # noqa: D102
        self, request: pb.ListComparisonTasksRequest, context: Any
    ) -> pb.ListComparisonTasksResponse:
        tasks, token, (done, total) = await self._people.list_tasks(
            TaskKind.COMPARISON, request.parent, request.annotator, request.page_size, request.page_token
        )
        return pb.ListComparisonTasksResponse(
            tasks=[comparison_task_to_proto(task) for task in tasks],
            next_page_token=token,
            progress=common_pb2.Progress(done=done, total=total),
        )

    async def SubmitComparison(  # noqa: D102
        self, request: pb.SubmitComparisonRequest, context: Any
    ) -> pb.ComparisonTask:
        preference = pb.Preference.Name(request.preference) if request.preference in pb.Preference.values() else ""
        task = await self._people.submit(
            TaskKind.COMPARISON, request.name, request.annotator, preference, skip=request.skip
        )
        return comparison_task_to_proto(task)

    async def ListPools(self, request: pb.ListPoolsRequest, context: Any) -> pb.ListPoolsResponse:  # noqa: D102
        views, token = page(
            self._pools.views(), request.page_size, request.page_token, key=lambda view: view.rules.name
        )
        return pb.ListPoolsResponse(pools=[pool_to_proto(view) for view in views], next_page_token=token)
