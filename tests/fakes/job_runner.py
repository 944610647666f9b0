"""A job runner without processes: the test says what happens to each trainer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from services.finetune.models import FinetuneJob, JobFailure, Progress
from services.finetune.ports import Observation, RunnerPhase


class FakeJobRunner:
    """A `JobRunner` with a number of places.

    Attributes:
        places: Trainers at once.
        started: Ids of jobs in the order of their starts.
        stopped: Ids of jobs in the order of their stops.
        forgotten: Ids of jobs in the order in which they were forgotten.
        seen: What `observe` answers, by job id.
    """

    def __init__(self, places: int = 1, now: float = 1000.0) -> None:
        self.places = places
        self.now = now
        self.started: list[str] = []
        self.stopped: list[str] = []
        self.forgotten: list[str] = []
        self.seen: dict[str, Observation] = {}

    async def open(self, changed: Callable[[str], None]) -> None:
        self.changed = changed

    async def close(self) -> None:
        pass

    async def observe(self, job: FinetuneJob) -> Observation:
        return self.seen.get(job.id, Observation(RunnerPhase.ABSENT))

    async def start(self, job: FinetuneJob) -> Observation:
        running = sum(seen.phase is RunnerPhase.RUNNING for seen in self.seen.values())
        before = await self.observe(job)
        if running >= self.places:
            return replace(before, phase=RunnerPhase.WAITING, message=f"Waits for one of {self.places} places.")
        self.started.append(job.id)
        self.seen[job.id] = Observation(RunnerPhase.RUNNING, before.attempts + 1, since=self.now)
        return self.seen[job.id]

    async def stop(self, job: FinetuneJob) -> str:
        self.stopped.append(job.id)
        self.die(job.id)
        return "its last line"

    async def forget(self, job: FinetuneJob) -> None:
        self.forgotten.append(job.id)

    def step(self, job_id: str, step: int, of: int) -> None:
        """The trainer makes progress."""
        progress = Progress(step, of, loss=1.0 / step, last_step_time=self.now, losses=((step, 1.0 / step),))
        self.seen[job_id] = replace(self.seen[job_id], progress=progress)

    def die(self, job_id: str, message: str = "signal 9") -> None:
        """The trainer is gone without a result."""
        if job_id in self.seen and self.seen[job_id].phase is RunnerPhase.RUNNING:
            self.seen[job_id] = replace(self.seen[job_id], phase=RunnerPhase.ABSENT, message=message)

    def finish(self, job_id: str, digest: str = "d1") -> None:
        """The trainer publishes."""
        seen = self.seen.get(job_id, Observation(RunnerPhase.ABSENT, 1))
        self.seen[job_id] = replace(seen, phase=RunnerPhase.ENDED, checkpoint_digest=digest)

    def fail(self, job_id: str, reason: str, message: str) -> None:
        """The trainer ends with a reason."""
        failure = JobFailure(reason, message)
        self.seen[job_id] = replace(self.seen[job_id], phase=RunnerPhase.ENDED, failure=failure)
