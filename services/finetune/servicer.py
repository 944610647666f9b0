"""The RPCs of `ilf.finetune.v1.FinetuneService`: convert, one use case, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from ilf.finetune.v1 import finetune_service_pb2 as pb
from ilf.finetune.v1 import finetune_service_pb2_grpc as pb_grpc
from opentelemetry import propagate

from ilf_common.rpc.pagination import page
from services.finetune import convert
from services.finetune.models import FinetuneJob
from services.finetune.service import FinetuneService


class FinetuneServicer(pb_grpc.FinetuneServiceServicer):
    """Answers the RPCs with the use cases."""

    def __init__(self, service: FinetuneService) -> None:
        self._service = service

    async def CreateFinetuneJob(self, request: pb.CreateFinetuneJobRequest, context: Any) -> pb.FinetuneJob:
        """Creates a job, or answers the one that this request created before."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        trace = carrier.get("traceparent", "")
        job = await self._service.create(request.request_id, convert.spec_of(request), traceparent=trace)
        return convert.to_proto(job)

    async def GetFinetuneJob(self, request: pb.GetFinetuneJobRequest, context: Any) -> pb.FinetuneJob:
        """One job."""
        return convert.to_proto(self._service.get(request.name))

    async def ListFinetuneJobs(self, request: pb.ListFinetuneJobsRequest, context: Any) -> pb.ListFinetuneJobsResponse:
        """Jobs, oldest first, without the curves of their losses: a page of them would be too large for a message."""
        jobs, token = page(self._service.list(), request.page_size, request.page_token, key=_age)
        shown = [convert.to_proto(replace(job, progress=replace(job.progress, losses=()))) for job in jobs]
        return pb.ListFinetuneJobsResponse(finetune_jobs=shown, next_page_token=token)

    async def CancelFinetuneJob(self, request: pb.CancelFinetuneJobRequest, context: Any) -> pb.FinetuneJob:
        """Ends a job."""
        return convert.to_proto(await self._service.cancel(request.name))

    async def WatchFinetuneJob(
        self, request: pb.WatchFinetuneJobRequest, context: Any
    ) -> AsyncIterator[pb.WatchFinetuneJobResponse]:
        """A job at each of its changes."""
        async with aclosing(self._service.watch(request.name)) as jobs:
            async for job in jobs:
                yield pb.WatchFinetuneJobResponse(finetune_job=convert.to_proto(job))


def _age(job: FinetuneJob) -> str:
    return f"{job.create_time:020.6f} {job.id}"
