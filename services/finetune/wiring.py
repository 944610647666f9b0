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
from ilf_common.telemetry import REGISTRY
from services.finetune.adapters.artifact_sources import ArtifactSources
from services.finetune.adapters.job_metrics import JobMetrics
from services.finetune.ports import JobRunner, JobStore, Limits
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
    store: JobStore

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        """Adds the service to a server, and answers its name."""
        pb_grpc.add_FinetuneServiceServicer_to_server(FinetuneServicer(self.service), server)
        return [SERVICE_NAME]

    async def drain(self) -> None:
        """Ends the streams that would otherwise go on as long as their jobs."""
        self.service.end_watches()

    async def stop(self) -> None:
        """Lets go of the jobs and of where they are written down."""
        await self.service.stop()
        await self.store.close()


def build(settings: FinetuneSettings) -> Finetune:
    """The service as its settings describe it.

    Raises:
        FailedPreconditionError: reason STATE_IN_USE.
    """
    artifacts = ArtifactStore(settings.store.root)
    store, runner, limits = (_kubernetes if settings.backend == "kubernetes" else _local)(settings, artifacts)
    sources = ArtifactSources(artifacts, settings.models, settings.model_roots, allow_hub=settings.allow_hub)
    return Finetune(FinetuneService(store, runner, sources, time.time, limits), store)


def _local(settings: FinetuneSettings, artifacts: ArtifactStore) -> tuple[JobStore, JobRunner, Limits]:
    from services.finetune.adapters.job_files import JobFiles
    from services.finetune.adapters.local_process import LocalLimits, LocalProcessRunner

    jobs = settings.state_dir.resolve() / "jobs"
    places = LocalLimits(settings.max_running, settings.trainer.processes)
    runner = LocalProcessRunner(jobs, artifacts.location, _runtime(settings), places)
    limits = Limits(settings.max_attempts, settings.stall_seconds, settings.poll_seconds)
    return JobFiles(jobs), runner, limits


def _kubernetes(settings: FinetuneSettings, artifacts: ArtifactStore) -> tuple[JobStore, JobRunner, Limits]:
    from services.finetune.adapters.kubernetes_api import Cluster
    from services.finetune.adapters.kubernetes_jobs import KubernetesJobRunner
    from services.finetune.adapters.kubernetes_manifests import Manifests
    from services.finetune.adapters.kubernetes_store import ConfigMapJobs
    from services.finetune.adapters.work_folders import WorkFolders

    options = settings.kubernetes
    cluster = Cluster(options.namespace)
    store = ConfigMapJobs(cluster, options.instance)
    manifests = Manifests(options, _runtime(settings), artifacts.location, settings.max_attempts)
    runner = KubernetesJobRunner(cluster, manifests, WorkFolders(artifacts), store.owner_of)
    limits = Limits(
        settings.max_attempts,
        settings.stall_seconds,
        poll_seconds=options.resync_seconds,
        workers=16,
        keep_seconds=options.keep_seconds,
        placements=frozenset(options.placements),
    )
    return store, runner, limits


def _runtime(settings: FinetuneSettings) -> Runtime:
    options = settings.trainer
    return Runtime(
        device=options.device,
        threads=options.threads,
        nice=options.nice,
        attention=options.attention,
        compile=options.compile,
        fsdp=options.fsdp,
        allow_hub=settings.allow_hub or bool(settings.models),
        otlp_endpoint=settings.telemetry.otlp_endpoint or "",
    )


async def run(settings: FinetuneSettings, *, ready: Callable[[int], None] | None = None) -> None:
    """Serves until the process is told to stop; trainers go on and are found again by the next process."""
    finetune = build(settings)
    REGISTRY.register(JobMetrics(finetune.service.list))
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
