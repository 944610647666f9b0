"""Builds the service from its settings; the only place that chooses implementations."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
from ilf.finetune.v1 import finetune_service_pb2 as pb
from ilf.finetune.v1 import finetune_service_pb2_grpc as pb_grpc

from ilf_common.artifacts import ArtifactStore
from ilf_common.rpc.server import serve
from services.finetune.adapters.artifact_sources import ArtifactSources
from services.finetune.adapters.job_files import JobFiles
from services.finetune.adapters.local_process import LocalLimits, LocalProcessRunner
from services.finetune.ports import Limits
from services.finetune.service import FinetuneService
from services.finetune.servicer import FinetuneServicer
from services.finetune.settings import FinetuneSettings
from services.finetune.trainer.job import Runtime

COMPONENT = "finetune"
SERVICE_NAME = pb.DESCRIPTOR.services_by_name["FinetuneService"].full_name


@dataclass(frozen=True)
class Finetune:
    """The service, built but not started."""

    service: FinetuneService
    files: JobFiles

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        """Adds the service to a server, and answers its name."""
        pb_grpc.add_FinetuneServiceServicer_to_server(FinetuneServicer(self.service), server)
        return [SERVICE_NAME]

    async def drain(self) -> None:
        """Ends the streams that would otherwise go on as long as their jobs."""
        self.service.end_watches()

    async def stop(self) -> None:
        """Lets go of the jobs and of the state folder."""
        await self.service.stop()
        self.files.close()


def build(settings: FinetuneSettings) -> Finetune:
    """The service as its settings describe it.

    Raises:
        FailedPreconditionError: reason STATE_IN_USE.
    """
    store = ArtifactStore(settings.store.root)
    jobs = settings.state_dir.resolve() / "jobs"
    options = settings.trainer
    runtime = Runtime(
        device=options.device,
        threads=options.threads,
        nice=options.nice,
        attention=options.attention,
        compile=options.compile,
        fsdp=options.fsdp,
        allow_hub=settings.allow_hub or bool(settings.models),
    )
    files = JobFiles(jobs)
    service = FinetuneService(
        files,
        LocalProcessRunner(jobs, store.location, runtime, LocalLimits(settings.max_running, options.processes)),
        ArtifactSources(store, settings.models, settings.model_roots, allow_hub=settings.allow_hub),
        time.time,
        Limits(settings.max_attempts, settings.stall_seconds, settings.poll_seconds),
    )
    return Finetune(service, files)


async def run(settings: FinetuneSettings, *, ready: Callable[[int], None] | None = None) -> None:
    """Serves until the process is told to stop; trainers go on and are found again by the next process."""
    finetune = build(settings)
    await serve(
        COMPONENT,
        settings.server,
        register=finetune.register,
        start=finetune.service.start,
        stop=finetune.stop,
        check_health=finetune.service.check_health,
        drain=finetune.drain,
        ready=ready,
        telemetry=settings.telemetry,
    )
