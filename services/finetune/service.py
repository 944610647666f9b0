"""The use cases of finetune jobs, and the loop that brings every job to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace

from ilf_common.errors import (
    AbortedError,
    AlreadyExistsError,
    FailedPreconditionError,
    NotFoundError,
    UnavailableError,
)
from services.finetune.models import Condition, FinetuneJob, FinetuneSpec, JobFailure, JobState, job_id_of
from services.finetune.ports import Clock, JobRunner, JobStore, Limits, Observation, RunnerPhase, Sources
from services.finetune.queue import WorkQueue
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
        self._outputs: dict[str, str] = {}
        self._changed: dict[str, asyncio.Event] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._queue = WorkQueue()
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Takes up the jobs that an earlier process left."""
        await self._runner.open(self._queue.add_changed)
        self._jobs = {job.id: job for job in await self._store.load()}
        self._outputs = {
            self._sources.resolve_output(job.spec.output_uri): job.id
            for job in self._jobs.values()
            if not job.state.ended
        }
        self._tasks = {
            asyncio.create_task(self._poll(), name="finetune-poll"),
            *(asyncio.create_task(self._work(self._queue.take)) for _ in range(self._limits.workers)),
            # However long the starts of other jobs take, a change is shown at once.
            *(asyncio.create_task(self._work(self._queue.take_changed)) for _ in range(self._limits.workers)),
        }

    async def stop(self) -> None:
        """Lets go of the jobs; their trainers go on, and the next process takes them up."""
        self.end_watches()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._runner.close()

    async def check_health(self) -> None:
        """Raises `UnavailableError` when the loop that drives the jobs has died."""
        if not self._tasks or any(task.done() for task in self._tasks):
            raise UnavailableError("The loop that drives finetune jobs has ended; restart the service.")

    def end_watches(self) -> None:
        """Ends the watchers' streams with UNAVAILABLE, so that they come back to the next process."""
        self._closing = True
        for event in self._changed.values():
            event.set()

    async def create(self, request_id: str, spec: FinetuneSpec, *, traceparent: str = "") -> FinetuneJob:
        """Writes a new job down, or answers the job that the same request created before.

        Args:
            request_id: The caller's, kept for repeats.
            spec: What to train.
            traceparent: The trace that the trainer's span shall belong to.

        Raises:
            InvalidArgumentError: Fields that can never work.
            NotFoundError: CHECKPOINT_NOT_FOUND, DATASET_NOT_FOUND.
            AlreadyExistsError: reason REQUEST_ID_CONFLICT; the request id came with another spec before.
            FailedPreconditionError: OUTPUT_IN_USE (another job that has not ended publishes there), CHECKPOINT_BROKEN.
        """
        check_request(request_id, spec, self._limits.placements)
        job_id = job_id_of(request_id)
        known = self._jobs.get(job_id)
        if known is None:
            # A repeat that comes before the first request was answered waits for it.
            async with self._locks.setdefault(job_id, asyncio.Lock()):
                known = self._jobs.get(job_id) or await self._add(job_id, request_id, spec, traceparent)
        if known.spec != spec:
            raise AlreadyExistsError(
                f"The request id {request_id} belongs to {known.name}, which has another spec. "
                "Use a new request id for a new job.",
                reason="REQUEST_ID_CONFLICT",
                metadata={"job": known.name},
            )
        return known

    async def _add(self, job_id: str, request_id: str, spec: FinetuneSpec, traceparent: str) -> FinetuneJob:
        base_source, output = await asyncio.to_thread(self._look_up, spec)
        self._require_free(output, spec)
        # Taken before the job is written down, for no other request may take it meanwhile.
        self._outputs[output] = job_id
        try:
            now = self._clock()
            new = FinetuneJob(job_id, request_id, spec, JobState.PENDING, now, base_source, traceparent=traceparent)
            job = await self._store.add(new.explain(Condition("Scheduled", "CREATED", "Waits to be started.", now)))
        except BaseException:
            del self._outputs[output]
            raise
        self._show(job)
        log.info("job created", extra={"job": job.name, "kind": spec.kind.name})
        self._queue.add_due([job_id])
        return job

    def _look_up(self, spec: FinetuneSpec) -> tuple[str, str]:
        """What the base model's name stands for, and the one name of the output; both may ask a far store."""
        self._sources.check_dataset(spec.dataset_uri)
        if spec.reward is not None and spec.reward.held_out_uri:
            self._sources.check_dataset(spec.reward.held_out_uri, "spec.reward.held_out_uri")
        return self._sources.resolve_base(spec.base_model), self._sources.resolve_output(spec.output_uri)

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
        job_id = self.get(name).id
        while not (job := self.get(name)).state.ended:
            async with self._locks.setdefault(job_id, asyncio.Lock()):
                job = self.get(name)
                if not job.state.ended and not job.cancel_requested:
                    # Written down first: a service that dies now carries on with the cancellation.
                    await self._save(replace(job, cancel_requested=True))
            await self._advance(job_id)
        return job

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

    def _require_free(self, output: str, spec: FinetuneSpec) -> None:
        other = self._outputs.get(output)
        if other is not None:
            raise FailedPreconditionError(
                f"jobs/{other} has not ended and publishes to {spec.output_uri} too. Choose another output_uri, or "
                "cancel that job.",
                reason="OUTPUT_IN_USE",
                metadata={"job": f"jobs/{other}", "resource": spec.output_uri},
            )

    async def _save(self, job: FinetuneJob) -> None:
        await self._store.save(job)
        self._show(job)

    def _show(self, job: FinetuneJob) -> None:
        """Puts a job before the eyes of readers and watchers; progress alone is not written down."""
        self._jobs[job.id] = job
        if job.state.ended:
            self._free_output(job.id)
        self._wake_watchers(job.id)

    def _free_output(self, job_id: str) -> None:
        self._outputs = {output: owner for output, owner in self._outputs.items() if owner != job_id}

    def _wake_watchers(self, job_id: str) -> None:
        event = self._changed.pop(job_id, None)
        if event is not None:
            event.set()

    async def _poll(self) -> None:
        """Asks again and again for a look at every job that has not ended."""
        while True:
            jobs = [job for job in self._jobs.values() if not job.state.ended or self._is_old(job)]
            # Those that may be running first: they hold the places that the others wait for.
            jobs.sort(key=lambda job: (job.state is JobState.PENDING and job.attempts == 0, job.create_time, job.id))
            self._queue.add_due(job.id for job in jobs)
            await asyncio.sleep(self._limits.poll_seconds)

    async def _work(self, take: Callable[[], Awaitable[str]]) -> None:
        while True:
            job_id = await take()
            try:
                await self._advance(job_id)
            except UnavailableError as error:
                log.warning("job not advanced: %s", error.message, extra={"job": f"jobs/{job_id}"})
            except Exception:
                # One job's fault, such as a full disk, must not hold up the others; it is tried again.
                log.exception("job not advanced", extra={"job": f"jobs/{job_id}"})

    async def _advance(self, job_id: str) -> None:
        """Takes one job as far as it can go now."""
        async with self._locks.setdefault(job_id, asyncio.Lock()):
            job = self._jobs.get(job_id)
            if job is not None and not job.state.ended:
                try:
                    await self._look(job_id)
                except AbortedError:
                    # Another process of this service has written the job: what it wrote is the truth.
                    await self._reread(job_id)
            elif job is not None and self._is_old(job):
                await self._runner.forget(job)
                await self._store.remove(job_id)
                self._drop(job_id)
        job = self._jobs.get(job_id)
        if job is None or job.state.ended:
            self._locks.pop(job_id, None)

    async def _reread(self, job_id: str) -> None:
        written = await self._store.read(job_id)
        if written is not None:
            self._show(written)
            self._queue.add_changed(job_id)
            return
        log.warning("job deleted by somebody else", extra={"job": f"jobs/{job_id}"})
        self._drop(job_id)

    def _drop(self, job_id: str) -> None:
        del self._jobs[job_id]
        self._free_output(job_id)
        self._wake_watchers(job_id)

    def _is_old(self, job: FinetuneJob) -> bool:
        kept = self._limits.keep_seconds
        return kept is not None and job.end_time is not None and self._clock() - job.end_time > kept

    async def _look(self, job_id: str) -> None:
        job = self._jobs[job_id]
        if job.cancel_requested:
            await self._runner.stop(job)
        seen = await self._runner.observe(job)
        job = replace(job, attempts=seen.attempts, progress=seen.progress)
        if seen.phase is RunnerPhase.ENDED:
            # What was published before the cancellation counts.
            await self._save(self._ended(job, seen))
        elif job.cancel_requested:
            await self._save(
                job.move(JobState.CANCELLED, self._condition("Ended", "CANCELLED", "Cancelled on request."))
            )
        elif seen.phase is RunnerPhase.RUNNING:
            await self._follow(job, seen)
        elif seen.phase is RunnerPhase.WAITING:
            await self._wait(job, seen)
        else:
            await self._start(job, seen)

    async def _follow(self, job: FinetuneJob, seen: Observation) -> None:
        """A trainer that runs: shown with its progress, or ended when it makes none."""
        last = max(seen.since or job.create_time, seen.progress.last_step_time or 0.0)
        idle = self._clock() - last
        if idle > self._limits.stall_seconds:
            log.warning("trainer stalled", extra={"job": job.name, "seconds": round(idle)})
            message = f"No step for {idle:.0f} s (attempt {job.attempts}); the trainer was ended."
            job = job.explain(self._condition("Stalled", "NO_PROGRESS", message))
            await self._save(job)
            last_words = await self._runner.stop(job)
            await self._save(job.explain(self._condition("Stalled", "ENDED", f"{message} {last_words}")))
            return
        if job.state is not JobState.RUNNING or self._jobs[job.id].attempts != job.attempts:
            message = f"Attempt {job.attempts} of at most {self._limits.max_attempts}."
            await self._save(job.move(JobState.RUNNING, self._condition("Running", "TRAINING", message)))
        elif job != self._jobs[job.id]:
            self._show(job)

    async def _start(self, job: FinetuneJob, seen: Observation) -> None:
        """A job without a trainer: started, or given up."""
        how = seen.message or job.conditions[-1].message
        if seen.attempts >= self._limits.max_attempts:
            message = f"The trainer died {seen.attempts} times without a result; the last time: {how}"
            failed = replace(job, failure=JobFailure(CRASHED, message))
            await self._save(failed.move(JobState.FAILED, self._condition("Ended", CRASHED, message)))
            return
        if seen.attempts and job.state is JobState.RUNNING:
            message = f"Attempt {seen.attempts} ended without a result ({how}); starts again."
            job = job.move(JobState.PENDING, self._condition("Scheduled", "RESTARTING", message))
            await self._save(job)
        started = await self._runner.start(job)
        job = replace(job, attempts=started.attempts, progress=started.progress)
        if started.phase is RunnerPhase.WAITING:
            await self._wait(job, started)
        elif started.phase is RunnerPhase.RUNNING:
            await self._follow(job, started)
        elif started.phase is RunnerPhase.ENDED:
            await self._save(self._ended(job, started))

    async def _wait(self, job: FinetuneJob, seen: Observation) -> None:
        waiting = job.explain(self._condition("Scheduled", seen.reason, seen.message))
        if job.state is not JobState.PENDING:
            waiting = waiting.move(JobState.PENDING, waiting.conditions[-1])
        if waiting != self._jobs[job.id]:
            await self._save(waiting)

    def _ended(self, job: FinetuneJob, seen: Observation) -> FinetuneJob:
        if seen.failure is not None:
            failed = replace(job, failure=seen.failure)
            return failed.move(JobState.FAILED, self._condition("Ended", seen.failure.reason, seen.failure.message))
        done = replace(job, checkpoint_digest=seen.checkpoint_digest)
        return done.move(JobState.SUCCEEDED, self._condition("Ended", "PUBLISHED", "The checkpoint is published."))

    def _condition(self, kind: str, reason: str, message: str) -> Condition:
        return Condition(kind, reason, message, self._clock())
