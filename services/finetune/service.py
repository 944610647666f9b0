"""The use cases of finetune jobs, and the loop that brings every job to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from dataclasses import replace

from ilf_common.errors import AlreadyExistsError, FailedPreconditionError, NotFoundError, UnavailableError
from services.finetune.models import Condition, FinetuneJob, FinetuneSpec, JobFailure, JobState, job_id_of
from services.finetune.ports import Clock, JobRunner, JobStore, Limits, Observation, RunnerPhase, Sources
from services.finetune.validation import check_request

log = logging.getLogger("ilf.finetune")

CRASHED = "TRAINER_CRASHED"


class FinetuneService:
    """Creates, shows, cancels and drives finetune jobs.

    Args:
        store: Where jobs are written down.
        runner: Runs the trainers.
        sources: The places that specs name.
        clock: The time of day.
        limits: The operator's rules.
    """

    def __init__(self, store: JobStore, runner: JobRunner, sources: Sources, clock: Clock, limits: Limits) -> None:
        self._store = store
        self._runner = runner
        self._sources = sources
        self._clock = clock
        self._limits = limits
        self._jobs: dict[str, FinetuneJob] = {}
        self._changed: dict[str, asyncio.Event] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._wake = asyncio.Event()
        self._closing = False
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Takes up the jobs that an earlier process left."""
        self._jobs = {job.id: job for job in self._store.load()}
        self._loop = asyncio.create_task(self._drive(), name="finetune-jobs")

    async def stop(self) -> None:
        """Lets go of the jobs; their trainers go on, and the next process takes them up."""
        self.end_watches()
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait({self._loop})

    async def check_health(self) -> None:
        """Raises `UnavailableError` when the loop that drives the jobs has died."""
        if self._loop is None or self._loop.done():
            raise UnavailableError("The loop that drives finetune jobs has ended; restart the service.")

    def end_watches(self) -> None:
        """Ends the watchers' streams with UNAVAILABLE, so that they come back to the next process."""
        self._closing = True
        for event in self._changed.values():
            event.set()

    def create(self, request_id: str, spec: FinetuneSpec) -> FinetuneJob:
        """Writes a new job down, or answers the job that the same request created before.

        Raises:
            InvalidArgumentError: Fields that can never work.
            NotFoundError: CHECKPOINT_NOT_FOUND, DATASET_NOT_FOUND.
            AlreadyExistsError: reason REQUEST_ID_CONFLICT; the request id came with another spec before.
            FailedPreconditionError: OUTPUT_IN_USE (another job that has not ended publishes there), CHECKPOINT_BROKEN.
        """
        check_request(request_id, spec)
        job_id = job_id_of(request_id)
        known = self._jobs.get(job_id)
        if known is not None:
            if known.spec != spec:
                raise AlreadyExistsError(
                    f"The request id {request_id} belongs to {known.name}, which has another spec. "
                    "Use a new request id for a new job.",
                    reason="REQUEST_ID_CONFLICT",
                    metadata={"job": known.name},
                )
            return known
        base_source = self._sources.resolve_base(spec.base_model)
        self._sources.check_dataset(spec.dataset_uri)
        self._check_output_free(spec)
        now = self._clock()
        job = FinetuneJob(job_id, request_id, spec, JobState.PENDING, create_time=now, base_source=base_source).explain(
            Condition("Scheduled", "CREATED", "Waits to be started.", now)
        )
        self._save(job)
        log.info("job created", extra={"job": job.name, "kind": spec.kind.name})
        self._wake.set()
        return job

    def get(self, name: str) -> FinetuneJob:
        """One job.

        Raises:
            NotFoundError: reason JOB_NOT_FOUND.
        """
        job = self._jobs.get(name.removeprefix("jobs/"))
        if job is None:
            raise NotFoundError(
                f"There is no finetune job {name!r}.",
                resource_type="finetune job",
                resource_name=name,
                reason="JOB_NOT_FOUND",
            )
        return job

    def list(self) -> list[FinetuneJob]:
        """All jobs."""
        return [*self._jobs.values()]

    async def cancel(self, name: str) -> FinetuneJob:
        """Ends a job and its processes; a job that has ended stays what it is.

        Raises:
            NotFoundError: reason JOB_NOT_FOUND.
        """
        job = self.get(name)
        if not job.state.ended and not job.cancel_requested:
            # Written down first: a service that dies now carries on with the cancellation.
            self._save(replace(job, cancel_requested=True))
        await self._advance(job.id)
        return self.get(name)

    async def watch(self, name: str) -> AsyncGenerator[FinetuneJob, None]:
        """The job now, and again at every change, until it has ended.

        Raises:
            NotFoundError: reason JOB_NOT_FOUND.
            UnavailableError: The service shuts down.
        """
        shown: FinetuneJob | None = None
        while True:
            changed = self._changed.setdefault(self.get(name).id, asyncio.Event())
            job = self.get(name)
            if job != shown:
                shown = job
                yield job
            if job.state.ended:
                return
            if self._closing:
                raise UnavailableError("The finetune service shuts down; watch again.", retry_after=1.0)
            await changed.wait()

    def _check_output_free(self, spec: FinetuneSpec) -> None:
        wanted = self._sources.resolve_output(spec.output_uri)
        for job in self._jobs.values():
            if not job.state.ended and self._sources.resolve_output(job.spec.output_uri) == wanted:
                raise FailedPreconditionError(
                    f"{job.name} has not ended and publishes to {spec.output_uri} too. Choose another output_uri, or "
                    "cancel that job.",
                    reason="OUTPUT_IN_USE",
                    metadata={"job": job.name, "resource": spec.output_uri},
                )

    def _save(self, job: FinetuneJob) -> None:
        self._store.save(job)
        self._show(job)

    def _show(self, job: FinetuneJob) -> None:
        """Puts a job before the eyes of readers and watchers; progress alone is not written down."""
        self._jobs[job.id] = job
        event = self._changed.pop(job.id, None)
        if event is not None:
            event.set()

    async def _drive(self) -> None:
        while True:
            self._wake.clear()
            unfinished = sorted(
                (job for job in self._jobs.values() if not job.state.ended), key=lambda job: (job.create_time, job.id)
            )
            # Those that may be running first: they hold the places that the others wait for.
            for job in sorted(unfinished, key=lambda job: job.state is JobState.PENDING and job.attempts == 0):
                try:
                    await self._advance(job.id)
                except Exception:
                    # One job's fault, such as a full disk, must not hold up the others; it is tried again.
                    log.exception("job not advanced", extra={"job": job.name})
            pause = self._limits.poll_seconds if unfinished else None
            try:
                await asyncio.wait_for(self._wake.wait(), timeout=pause)
            except TimeoutError:
                continue

    async def _advance(self, job_id: str) -> None:
        """Takes one job as far as it can go now."""
        async with self._locks.setdefault(job_id, asyncio.Lock()):
            if self._jobs[job_id].state.ended:
                return
            await self._look(job_id)
        if self._jobs[job_id].state.ended:
            self._locks.pop(job_id, None)

    async def _look(self, job_id: str) -> None:
        job = self._jobs[job_id]
        if job.cancel_requested:
            await self._runner.stop(job_id)
        seen = await self._runner.observe(job_id)
        # Somebody may have asked for the end while the runner was looking.
        job = replace(self._jobs[job_id], attempts=seen.attempts, progress=seen.progress)
        if seen.phase is RunnerPhase.ENDED:
            self._save(self._ended(job, seen))
        elif self._jobs[job_id].cancel_requested:
            if seen.phase is RunnerPhase.RUNNING:
                await self._runner.stop(job_id)
            self._save(job.move(JobState.CANCELLED, self._condition("Ended", "CANCELLED", "Cancelled on request.")))
        elif seen.phase is RunnerPhase.RUNNING:
            await self._follow(job, seen)
        elif seen.phase is RunnerPhase.WAITING:
            self._wait(job, seen)
        else:
            await self._start(job, seen)

    async def _follow(self, job: FinetuneJob, seen: Observation) -> None:
        """A trainer that runs: shown with its progress, or ended when it makes none."""
        last = max(seen.since or job.create_time, seen.progress.last_step_time or 0.0)
        idle = self._clock() - last
        if idle > self._limits.stall_seconds:
            log.warning("trainer stalled", extra={"job": job.name, "seconds": round(idle)})
            message = f"No step for {idle:.0f} s (attempt {job.attempts}); the trainer was ended."
            self._save(job.explain(self._condition("Stalled", "NO_PROGRESS", message)))
            await self._runner.stop(job.id)
            return
        if job.state is not JobState.RUNNING or self._jobs[job.id].attempts != job.attempts:
            message = f"Attempt {job.attempts} of at most {self._limits.max_attempts}."
            self._save(job.move(JobState.RUNNING, self._condition("Running", "TRAINING", message)))
        elif job != self._jobs[job.id]:
            self._show(job)

    async def _start(self, job: FinetuneJob, seen: Observation) -> None:
        """A job without a trainer: started, or given up."""
        if seen.attempts >= self._limits.max_attempts:
            message = f"The trainer died {seen.attempts} times without a result; the last time: {seen.message}"
            failed = replace(job, failure=JobFailure(CRASHED, message))
            self._save(failed.move(JobState.FAILED, self._condition("Ended", CRASHED, message)))
            return
        if seen.attempts and job.state is JobState.RUNNING:
            message = f"Attempt {seen.attempts} ended without a result ({seen.message}); starts again."
            job = job.move(JobState.PENDING, self._condition("Scheduled", "RESTARTING", message))
            self._save(job)
        started = await self._runner.start(job)
        job = replace(job, attempts=started.attempts, progress=started.progress)
        if started.phase is RunnerPhase.WAITING:
            self._wait(job, started)
        elif started.phase is RunnerPhase.RUNNING:
            await self._follow(job, started)

    def _wait(self, job: FinetuneJob, seen: Observation) -> None:
        waiting = job.explain(self._condition("Scheduled", "WAITING", seen.message))
        if job.state is not JobState.PENDING:
            waiting = waiting.move(JobState.PENDING, waiting.conditions[-1])
        if waiting != self._jobs[job.id]:
            self._save(waiting)

    def _ended(self, job: FinetuneJob, seen: Observation) -> FinetuneJob:
        if seen.failure is not None:
            failed = replace(job, failure=seen.failure)
            return failed.move(JobState.FAILED, self._condition("Ended", seen.failure.reason, seen.failure.message))
        done = replace(job, checkpoint_digest=seen.checkpoint_digest)
        return done.move(JobState.SUCCEEDED, self._condition("Ended", "PUBLISHED", "The checkpoint is published."))

    def _condition(self, kind: str, reason: str, message: str) -> Condition:
        return Condition(kind, reason, message, self._clock())
