"""Finetune jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cached_property
from typing import TYPE_CHECKING

from ilf.finetune.v1 import finetune_service_pb2 as pb
from ilf.finetune.v1.finetune_service_pb2_grpc import FinetuneServiceStub

from ilf_client._convert import from_proto, to_proto
from ilf_client._transport import Transport, collect_pages, new_request_id
from ilf_client.models.jobs import FinetuneJob, FinetuneSpec

if TYPE_CHECKING:
    from ilf.finetune.v1.finetune_service_pb2_grpc import FinetuneServiceAsyncStub


class AsyncJobs:
    """Create, watch and cancel finetune jobs. A job's name is `jobs/<id>`; the bare id is understood too."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @cached_property
    def _stub(self) -> FinetuneServiceAsyncStub:
        return FinetuneServiceStub(self._transport.channel("finetune"))

    async def create(
        self, spec: FinetuneSpec, *, request_id: str | None = None, timeout: float | None = None
    ) -> FinetuneJob:
        """Starts a job; the same request_id with the same spec answers the first job."""
        request = pb.CreateFinetuneJobRequest(request_id=new_request_id(request_id))
        to_proto(spec, request.spec)
        return from_proto(await self._transport.call(self._stub.CreateFinetuneJob, request, timeout), FinetuneJob)

    async def get(self, name: str, *, timeout: float | None = None) -> FinetuneJob:
        """One job."""
        request = pb.GetFinetuneJobRequest(name=_job_name(name))
        return from_proto(await self._transport.call(self._stub.GetFinetuneJob, request, timeout), FinetuneJob)

    async def list(self, *, timeout: float | None = None) -> AsyncIterator[FinetuneJob]:
        """All jobs."""

        async def fetch(token: str) -> pb.ListFinetuneJobsResponse:
            request = pb.ListFinetuneJobsRequest(page_token=token)
            return await self._transport.call(self._stub.ListFinetuneJobs, request, timeout)

        async for job in collect_pages(fetch, "finetune_jobs", FinetuneJob):
            yield job

    async def cancel(self, name: str, *, request_id: str | None = None, timeout: float | None = None) -> FinetuneJob:
        """Ends a job; one that has finished stays what it is."""
        request = pb.CancelFinetuneJobRequest(request_id=new_request_id(request_id), name=_job_name(name))
        return from_proto(await self._transport.call(self._stub.CancelFinetuneJob, request, timeout), FinetuneJob)

    async def watch(self, name: str, *, timeout: float | None = None) -> AsyncIterator[FinetuneJob]:
        """The job now and at each change, until it has ended."""
        request = pb.WatchFinetuneJobRequest(name=_job_name(name))
        async for response in self._transport.watch(self._stub.WatchFinetuneJob, request, timeout):
            yield from_proto(response.finetune_job, FinetuneJob)


def _job_name(name: str) -> str:
    return name if name.startswith("jobs/") else f"jobs/{name}"
