"""Trainers as Kubernetes Jobs.

Kubernetes starts a trainer again after a crash, whether or not this process lives; the cluster's objects and the
work folder in the artifact store are all there is to know, and are read anew by every process of the service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from ilf_common.errors import FailedPreconditionError, UnavailableError
from services.finetune.adapters.kubernetes_api import (
    EVENTS,
    JOBS,
    PODS,
    SERVICES,
    Cluster,
    Collection,
    Object,
    RefusedError,
)
from services.finetune.adapters.kubernetes_manifests import COMPONENT, Manifests, Workplace, selector
from services.finetune.adapters.kubernetes_reading import JobObjects, last_words, observe, waiting_for
from services.finetune.adapters.kubernetes_watch import Watched
from services.finetune.adapters.progress_reader import ProgressReader
from services.finetune.adapters.work_folders import WorkFolders
from services.finetune.models import FinetuneJob, JobFailure
from services.finetune.ports import Observation, RunnerPhase

_JOBSET = "jobset.x-k8s.io"
JOBSETS = "jobsets"
_KUEUE = "kueue.x-k8s.io"
WORKLOADS = "workloads"
_STOP_GRACE_SECONDS = 2
_STOP_SECONDS = 300.0


class KubernetesJobRunner:
    """Runs trainers in a namespace.

    Args:
        cluster: The namespace.
        manifests: Builds the objects.
        folders: What trainers write.
        owner_of: The reference by which objects belong to a job's record.
    """

    def __init__(
        self, cluster: Cluster, manifests: Manifests, folders: WorkFolders, owner_of: Callable[[str], Object]
    ) -> None:
        self._cluster = cluster
        self._manifests = manifests
        self._folders = folders
        self._owner_of = owner_of
        self._progress = ProgressReader(folders, self._note, manifests.settings.progress_seconds)
        self._changed: Callable[[str], None] = lambda _: None
        self._moved: dict[str, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._jobsets: Collection | None = None
        self._watched: dict[str, Watched] = {}

    async def open(self, changed: Callable[[str], None]) -> None:
        """Reads what is there, and follows its changes.

        Raises:
            FailedPreconditionError: JOBSET_MISSING, KUEUE_MISSING; the settings ask for what the cluster has not.
            UnavailableError: The API server does not answer.
        """
        self._changed = changed
        trainers = selector(self._manifests.settings.instance, COMPONENT)
        self._jobsets = await self._find_jobsets()
        workloads = await self._find_workloads()
        follow = {
            JOBS.plural: Watched(self._cluster, JOBS, self._note, labels=trainers),
            PODS.plural: Watched(self._cluster, PODS, self._note, labels=trainers),
            # Pods say themselves what is wrong with them.
            EVENTS.plural: Watched(self._cluster, EVENTS, self._note, fields="type=Warning,involvedObject.kind!=Pod"),
        }
        if self._jobsets is not None:
            follow[JOBSETS] = Watched(self._cluster, self._jobsets, self._note, labels=trainers)
        if workloads is not None:
            follow[WORKLOADS] = Watched(self._cluster, workloads, self._note)
        self._watched = follow
        self._tasks = [asyncio.create_task(one.follow(), name=f"watch-{kind}") for kind, one in follow.items()]
        self._tasks.append(asyncio.create_task(self._progress.follow(), name="watch-progress"))
        for one in follow.values():
            await one.listed()

    async def close(self) -> None:
        """Ends the watches."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def observe(self, job: FinetuneJob) -> Observation:
        """Reads what is known of the job's objects, and of its work where that matters."""
        seen = observe(job, self._objects(job.id))
        if seen.phase is RunnerPhase.RUNNING:
            return replace(seen, progress=self._progress.of(job))
        self._progress.leave(job.id)
        if seen.phase is RunnerPhase.ENDED or (seen.phase is RunnerPhase.ABSENT and job.attempts):
            return await self._with_result(job, seen)
        return replace(seen, progress=job.progress)

    async def start(self, job: FinetuneJob) -> Observation:
        """Creates the job's objects; Kueue or the scheduler decides when its pods run."""
        if not self._manifests.knows(job.spec.placement):
            message = f"The placement {job.spec.placement!r} is not offered any more."
            return Observation(RunnerPhase.ENDED, job.attempts, failure=JobFailure("BAD_CONFIG", message))
        work_dir, mirror = self._folders.place(job.id)
        place = Workplace(work_dir, mirror, self._owner_of(job.id))
        nodes = self._manifests.pods(job).nodes
        try:
            if nodes > 1 and self._jobsets is not None:
                made = await self._create(self._jobsets, self._manifests.jobset(job, place, self._jobsets.api))
            else:
                if nodes > 1:
                    await self._create(SERVICES, self._manifests.service(job, place))
                made = await self._create(JOBS, self._manifests.job(job, place))
        except RefusedError as error:
            # A webhook, a policy or a quota: it may change its mind, and meanwhile the job says what is wrong.
            reason = "QUOTA" if "quota" in error.text else "REFUSED"
            return _waiting(job, reason, error.message)
        except UnavailableError as error:
            # The API server, or a webhook that it asks.
            return _waiting(job, "UNAVAILABLE", error.message)
        return _waiting(job, *waiting_for(JobObjects(made)))

    async def stop(self, job: FinetuneJob) -> str:
        """Deletes the job's objects and waits until its pods are gone, and with them their GPUs free."""
        for kind in (JOBS,) if self._jobsets is None else (self._jobsets, JOBS):
            await self._cluster.delete(kind, job.id, foreground=True)
        # After the Job, which would replace them; at once, because nobody wants another checkpoint.
        for pod in self._watched[PODS.plural].of(job.id):
            await self._cluster.delete(PODS, pod["metadata"]["name"], grace_seconds=_STOP_GRACE_SECONDS)
        async with asyncio.timeout(_STOP_SECONDS):
            return await self._until_gone(job.id)

    async def forget(self, job: FinetuneJob) -> None:
        """Deletes what the trainer has written beside its checkpoint; the job's record takes its objects along."""
        await asyncio.to_thread(self._folders.delete, job.id)

    async def _until_gone(self, job_id: str) -> str:
        words = ""
        while True:
            moved = self._moved.setdefault(job_id, asyncio.Event())
            words = last_words(self._watched[PODS.plural].of(job_id)) or words
            if not any(self._watched[kind].of(job_id) for kind in (*self._tops(), PODS.plural)):
                return words
            await moved.wait()

    def _note(self, job_id: str) -> None:
        """Something of a job has changed."""
        moved = self._moved.pop(job_id, None)
        if moved is not None:
            moved.set()
        self._changed(job_id)

    async def _create(self, kind: Collection, body: Object) -> Object:
        """Creates an object, or answers the one that an earlier try has created."""
        name = body["metadata"]["name"]
        try:
            made = await self._cluster.create(kind, body)
        except RefusedError as error:
            if error.kind != "AlreadyExists":
                raise
            made = await self._cluster.get(kind, name) or body
        if kind.plural in self._watched and "resourceVersion" in made["metadata"]:
            self._watched[kind.plural].put(made)
        return made

    def _objects(self, job_id: str) -> JobObjects:
        found = {kind: watched.of(job_id) for kind, watched in self._watched.items()}
        tops = [one for kind in self._tops() for one in found[kind]]
        return JobObjects(
            tops[0] if tops else None,
            jobs=found[JOBS.plural],
            pods=found[PODS.plural],
            events=found[EVENTS.plural],
            workloads=found.get(WORKLOADS, ()),
        )

    def _tops(self) -> tuple[str, ...]:
        """Kinds of what a job is made of, the outer one first."""
        return (JOBSETS, JOBS.plural) if JOBSETS in self._watched else (JOBS.plural,)

    async def _with_result(self, job: FinetuneJob, seen: Observation) -> Observation:
        """Adds what the trainer itself has written about its end."""
        result = await asyncio.to_thread(self._folders.result, job.id)
        progress = await asyncio.to_thread(self._folders.progress, job.id) or job.progress
        seen = replace(seen, progress=progress)
        if result is not None and result.reason is not None:
            return replace(seen, phase=RunnerPhase.ENDED, failure=JobFailure(result.reason.value, result.message))
        if result is not None:
            return replace(seen, phase=RunnerPhase.ENDED, failure=None, checkpoint_digest=result.checkpoint_digest)
        return seen

    async def _find_jobsets(self) -> Collection | None:
        wanted = self._manifests.settings.kind
        if wanted == "job":
            return None
        versions = await self._cluster.versions(_JOBSET)
        if versions:
            return Collection(f"{_JOBSET}/{versions[0]}", JOBSETS)
        if wanted == "auto":
            return None
        raise FailedPreconditionError(
            "kubernetes.kind is jobset, but the cluster has no JobSets. Install them, or set kind to auto or job.",
            reason="JOBSET_MISSING",
        )

    async def _find_workloads(self) -> Collection | None:
        options = self._manifests.settings
        if not any(pods.queue for pods in (options, *options.placements.values())):
            return None
        versions = await self._cluster.versions(_KUEUE)
        if versions:
            return Collection(f"{_KUEUE}/{versions[0]}", WORKLOADS)
        raise FailedPreconditionError(
            "kubernetes.queue is set, but the cluster has no Kueue, so jobs would stay suspended. Install it, or unset "
            "the queue.",
            reason="KUEUE_MISSING",
        )


def _waiting(job: FinetuneJob, reason: str, message: str) -> Observation:
    return Observation(RunnerPhase.WAITING, job.attempts, reason=reason, message=message, progress=job.progress)
