"""The finetune service, over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc
from ilf.common.v1 import common_pb2
from ilf.finetune.v1 import finetune_service_pb2 as pb
from ilf.finetune.v1.finetune_service_pb2_grpc import FinetuneServiceStub

from ilf_common.rpc.client import RetryPolicy, call, stream
from ilf_common.rpc.status import from_status
from services.orchestrator.calls import FinetuneOrder, JobStatus
from services.orchestrator.convert import to_message

_UNARY_SECONDS = 30.0


class FinetuneClient:
    """Implements `ports.Finetune`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = FinetuneServiceStub(channel)

    async def create(self, request_id: str, order: FinetuneOrder) -> str:
        """Name of the job with this request id, new or not."""
        spec = pb.FinetuneSpec(
            kind=pb.FINETUNE_KIND_SFT,
            base_model=order.base_model,
            dataset_uri=order.dataset_uri,
            output_uri=order.output_uri,
            hyperparameters=to_message(order.hyperparameters, pb.Hyperparameters),
            merge_adapter=order.merge_adapter,
        )
        if order.template is not None:
            spec.template.CopyFrom(to_message(order.template, common_pb2.PromptTemplate))
        request = pb.CreateFinetuneJobRequest(request_id=request_id, spec=spec)
        job = await call(self._stub.CreateFinetuneJob, request, timeout=_UNARY_SECONDS)
        return str(job.name)

    async def watch(self, job: str) -> AsyncIterator[JobStatus]:
        """The job now and at each change."""
        request = pb.WatchFinetuneJobRequest(name=job)
        async with aclosing(stream(self._stub.WatchFinetuneJob, request, timeout=None)) as responses:
            async for response in responses:
                yield _status(response.finetune_job)

    async def cancel(self, job: str) -> None:
        """Ends the job's processes."""
        request = pb.CancelFinetuneJobRequest(request_id=f"cancel-{job}", name=job)
        await call(self._stub.CancelFinetuneJob, request, timeout=_UNARY_SECONDS, retry=RetryPolicy())


def _status(job: pb.FinetuneJob) -> JobStatus:
    return JobStatus(
        name=job.name,
        state=pb.FinetuneJobState.Name(job.state).removeprefix("FINETUNE_JOB_STATE_"),
        step=job.progress.step,
        max_steps=job.progress.max_steps,
        message=job.conditions[-1].message if job.conditions else "",
        error=from_status(job.error) if job.HasField("error") else None,
    )
