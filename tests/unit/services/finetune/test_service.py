from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from ilf_common.errors import (
    AbortedError,
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from ilf_common.templates import PromptTemplate
from services.finetune.models import FinetuneJob, FinetuneKind, FinetuneSpec, Hyperparameters, JobState, job_id_of
from services.finetune.ports import Limits
from services.finetune.service import FinetuneService
from tests.fakes.job_runner import FakeJobRunner


class MemoryStore:
    """Jobs in a dictionary; counts writes."""

    def __init__(self, jobs: Sequence[FinetuneJob] = ()) -> None:
        self.jobs = {job.id: job for job in jobs}
        self.writes = 0

    async def load(self) -> Sequence[FinetuneJob]:
        return [*self.jobs.values()]

    async def add(self, job: FinetuneJob) -> FinetuneJob:
        self.writes += 1
        return self.jobs.setdefault(job.id, job)

    async def save(self, job: FinetuneJob) -> None:
        self.writes += 1
        self.jobs[job.id] = job

    async def read(self, job_id: str) -> FinetuneJob | None:
        return self.jobs.get(job_id)

    async def remove(self, job_id: str) -> None:
        del self.jobs[job_id]

    async def close(self) -> None:
        pass


class OpenSources:
    """Everything exists but what is called "missing"."""

    def resolve_base(self, name: str) -> str:
        return f"/models/{name}"

    def check_dataset(self, uri: str, field: str = "spec.dataset_uri") -> None:
        if uri == "missing":
            raise NotFoundError("no", resource_type="dataset", resource_name=uri, reason="DATASET_NOT_FOUND")

    def resolve_output(self, uri: str) -> str:
        return uri.rstrip("/")


SPEC = FinetuneSpec(FinetuneKind.SFT, "base", "data.jsonl", "out/a", template=PromptTemplate("p", "say {context}"))


def spec(output: str) -> FinetuneSpec:
    return replace(SPEC, output_uri=output)


@asynccontextmanager
async def running(
    runner: FakeJobRunner, store: MemoryStore | None = None, limits: Limits | None = None
) -> AsyncIterator[FinetuneService]:
    limits = limits or Limits(max_attempts=2, stall_seconds=60, poll_seconds=0.005)
    service = FinetuneService(store or MemoryStore(), runner, OpenSources(), lambda: runner.now, limits)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


async def until(service: FinetuneService, name: str, fits: Callable[[FinetuneJob], bool]) -> FinetuneJob:
    """The first state of a job that fits."""
    async with asyncio.timeout(5):
        async for job in service.watch(name):
            if fits(job):
                return job
    raise AssertionError(f"{name} ended as {service.get(name)}")


async def test_a_job_runs_to_its_end_and_every_change_is_seen() -> None:
    runner = FakeJobRunner()
    async with running(runner) as service:
        job = await service.create("r1", SPEC)
        seen: list[tuple[JobState, int]] = []
        async for shown in service.watch(job.name):
            seen.append((shown.state, shown.progress.step))
            if shown.state is JobState.RUNNING and shown.progress.step < 2:
                runner.step(job.id, shown.progress.step + 1, of=2)
            elif shown.state is JobState.RUNNING:
                runner.finish(job.id)
        assert seen[0] == (JobState.PENDING, 0)
        assert [state for state in seen if state[0] is JobState.RUNNING] == [(JobState.RUNNING, n) for n in (0, 1, 2)]
        done = service.get(job.name)
        assert (done.state, done.checkpoint_digest, done.attempts) == (JobState.SUCCEEDED, "d1", 1)


async def test_progress_is_shown_but_not_written_down() -> None:
    runner, store = FakeJobRunner(), MemoryStore()
    async with running(runner, store) as service:
        job = await service.create("r1", SPEC)
        await until(service, job.name, lambda job: job.state is JobState.RUNNING)
        writes = store.writes
        runner.step(job.id, 1, of=9)
        await until(service, job.name, lambda job: job.progress.step == 1)
        assert store.writes == writes


async def test_a_repeated_request_answers_the_first_job() -> None:
    async with running(FakeJobRunner()) as service:
        job = await service.create("r1", SPEC)
        assert (await service.create("r1", SPEC)).name == job.name == f"jobs/{job_id_of('r1')}"
        assert len(service.list()) == 1


async def test_another_spec_under_the_same_request_id_is_refused() -> None:
    async with running(FakeJobRunner()) as service:
        await service.create("r1", SPEC)
        with pytest.raises(AlreadyExistsError) as raised:
            await service.create("r1", spec("out/b"))
        assert raised.value.reason == "REQUEST_ID_CONFLICT"


async def test_two_unfinished_jobs_never_share_an_output() -> None:
    runner = FakeJobRunner()
    async with running(runner) as service:
        first = await service.create("r1", SPEC)
        with pytest.raises(FailedPreconditionError) as raised:
            await service.create("r2", spec("out/a/"))
        assert raised.value.reason == "OUTPUT_IN_USE"
        await service.cancel(first.name)
        assert (await service.create("r2", spec("out/a/"))).state is JobState.PENDING


async def test_a_dataset_that_is_missing_leaves_no_job() -> None:
    async with running(FakeJobRunner()) as service:
        with pytest.raises(NotFoundError):
            await service.create("r1", replace(SPEC, dataset_uri="missing"))
        assert service.list() == []


async def test_jobs_beyond_the_places_wait_in_order_and_say_for_what() -> None:
    runner = FakeJobRunner(places=1)
    async with running(runner) as service:
        jobs = []
        for number in range(3):
            runner.now += 1
            jobs.append(await service.create(f"r{number}", spec(f"out/{number}")))
        waiting = await until(service, jobs[2].name, lambda job: job.conditions[-1].reason == "WAITING")
        assert waiting.state is JobState.PENDING
        assert "places" in waiting.conditions[-1].message
        for job in jobs:
            await until(service, job.name, lambda job: job.state is JobState.RUNNING)
            runner.finish(job.id)
            await until(service, job.name, lambda job: job.state is JobState.SUCCEEDED)
        assert runner.started == [job.id for job in jobs]


async def test_a_trainer_that_died_is_started_again_and_then_given_up() -> None:
    runner = FakeJobRunner()
    async with running(runner) as service:
        job = await service.create("r1", SPEC)
        await until(service, job.name, lambda job: job.state is JobState.RUNNING)
        runner.die(job.id)
        again = await until(service, job.name, lambda job: job.state is JobState.RUNNING and job.attempts == 2)
        assert "RESTARTING" in [condition.reason for condition in again.conditions]
        runner.die(job.id, "signal 11")
        failed = await until(service, job.name, lambda job: job.state is JobState.FAILED)
        assert failed.failure is not None
        assert failed.failure.reason == "TRAINER_CRASHED"
        assert "signal 11" in failed.failure.message
        assert len(runner.started) == 2


async def test_a_failure_with_a_reason_is_final() -> None:
    runner = FakeJobRunner()
    async with running(runner) as service:
        job = await service.create("r1", SPEC)
        await until(service, job.name, lambda job: job.state is JobState.RUNNING)
        runner.fail(job.id, "BAD_DATA", "row 3")
        failed = await until(service, job.name, lambda job: job.state is JobState.FAILED)
        assert failed.failure is not None and failed.failure.reason == "BAD_DATA"
        assert len(runner.started) == 1


async def test_a_stalled_trainer_is_ended_and_started_again() -> None:
    runner = FakeJobRunner()
    async with running(runner) as service:
        job = await service.create("r1", SPEC)
        await until(service, job.name, lambda job: job.state is JobState.RUNNING)
        runner.step(job.id, 1, of=9)
        runner.now += 61
        again = await until(service, job.name, lambda job: job.attempts == 2)
        assert runner.stopped == [job.id]
        assert "NO_PROGRESS" in [condition.reason for condition in again.conditions]


async def test_cancel_ends_the_processes_before_it_answers() -> None:
    runner = FakeJobRunner()
    async with running(runner) as service:
        job = await service.create("r1", SPEC)
        await until(service, job.name, lambda job: job.state is JobState.RUNNING)
        assert (await service.cancel(job.name)).state is JobState.CANCELLED
        assert runner.stopped == [job.id]
        assert (await service.cancel(job.name)).state is JobState.CANCELLED
        assert runner.stopped == [job.id]


async def test_cancel_of_a_waiting_job_never_starts_it() -> None:
    runner = FakeJobRunner(places=0)
    async with running(runner) as service:
        job = await service.create("r1", SPEC)
        assert (await service.cancel(job.name)).state is JobState.CANCELLED
        assert runner.started == []


async def test_a_checkpoint_that_was_published_before_the_cancellation_counts() -> None:
    runner = FakeJobRunner()
    async with running(runner, limits=Limits(poll_seconds=60)) as service:
        job = await service.create("r1", SPEC)
        await until(service, job.name, lambda job: job.state is JobState.RUNNING)
        runner.finish(job.id)
        assert (await service.cancel(job.name)).state is JobState.SUCCEEDED


async def test_the_next_process_takes_up_live_dead_and_cancelled_jobs() -> None:
    runner, store = FakeJobRunner(places=3), MemoryStore()
    async with running(runner, store) as service:
        names = {}
        for what in ("live", "dead", "done", "cancelled"):
            runner.places = 4
            names[what] = (await service.create(what, spec(f"out/{what}"))).name
            await until(service, names[what], lambda job: job.state is JobState.RUNNING)
    runner.die(job_id_of("dead"))
    runner.finish(job_id_of("done"))
    cancelled = store.jobs[job_id_of("cancelled")]
    store.jobs[cancelled.id] = replace(cancelled, cancel_requested=True)
    async with running(runner, store) as service:
        await until(service, names["done"], lambda job: job.state is JobState.SUCCEEDED)
        await until(service, names["cancelled"], lambda job: job.state is JobState.CANCELLED)
        await until(service, names["dead"], lambda job: job.attempts == 2)
        assert service.get(names["live"]).attempts == 1
        assert runner.started.count(job_id_of("live")) == 1


async def test_watchers_are_sent_away_when_the_service_stops() -> None:
    runner = FakeJobRunner()
    async with running(runner) as service:
        job = await service.create("r1", SPEC)
        await until(service, job.name, lambda job: job.state is JobState.RUNNING)
        jobs = service.watch(job.name)
        await anext(jobs)
        pending = asyncio.ensure_future(anext(jobs))
        await asyncio.sleep(0)
        service.end_watches()
        with pytest.raises(UnavailableError):
            await pending


async def test_one_job_that_cannot_be_looked_at_does_not_hold_up_the_others() -> None:
    class Flaky(FakeJobRunner):
        async def start(self, job: FinetuneJob):  # type: ignore[no-untyped-def]
            if job.request_id == "bad":
                raise OSError("disk full")
            return await super().start(job)

    runner = Flaky(places=2)
    async with running(runner) as service:
        await service.create("bad", spec("out/bad"))
        runner.now += 1
        good = await service.create("good", spec("out/good"))
        await until(service, good.name, lambda job: job.state is JobState.RUNNING)
        await service.check_health()


async def test_all_wrong_fields_are_named_at_once() -> None:
    service = FinetuneService(MemoryStore(), FakeJobRunner(), OpenSources(), lambda: 0.0, Limits())
    wrong = FinetuneSpec(
        FinetuneKind.SFT,
        "",
        "data.jsonl",
        "out\n",
        Hyperparameters(
            learning_rate=float("nan"), batch_size=8, micro_batch_size=3, lr_schedule="steps", dtype="int8"
        ),
        PromptTemplate("p", "{context} {feedback}"),
    )
    with pytest.raises(InvalidArgumentError) as raised:
        await service.create("", wrong)
    assert {violation.field for violation in raised.value.violations} == {
        "request_id",
        "spec.base_model",
        "spec.output_uri",
        "spec.template.text",
        "spec.hyperparameters.learning_rate",
        "spec.hyperparameters.micro_batch_size",
        "spec.hyperparameters.lr_schedule",
        "spec.hyperparameters.dtype",
    }


async def test_a_change_that_the_runner_tells_of_is_seen_at_once() -> None:
    runner = FakeJobRunner()
    async with running(runner, limits=Limits(poll_seconds=60)) as service:
        job = await service.create("r1", SPEC)
        await until(service, job.name, lambda job: job.state is JobState.RUNNING)
        runner.finish(job.id)
        runner.changed(job.id)
        await until(service, job.name, lambda job: job.state is JobState.SUCCEEDED)


async def test_many_jobs_are_looked_at_side_by_side() -> None:
    class Slow(FakeJobRunner):
        async def start(self, job: FinetuneJob):  # type: ignore[no-untyped-def]
            if job.request_id == "slow":
                await asyncio.Event().wait()
            return await super().start(job)

    runner = Slow(places=2)
    async with running(runner, limits=Limits(poll_seconds=0.005, workers=2)) as service:
        await service.create("slow", spec("out/slow"))
        runner.now += 1
        quick = await service.create("quick", spec("out/quick"))
        await until(service, quick.name, lambda job: job.state is JobState.RUNNING)


async def test_a_change_is_seen_while_the_starts_of_other_jobs_take_their_time() -> None:
    slow = asyncio.Barrier(3)

    class Slow(FakeJobRunner):
        async def start(self, job: FinetuneJob):  # type: ignore[no-untyped-def]
            if job.request_id.startswith("slow"):
                await slow.wait()
                await asyncio.Event().wait()
            return await super().start(job)

    runner = Slow(places=5)
    async with running(runner, limits=Limits(poll_seconds=0.005, workers=2)) as service:
        job = await service.create("quick", spec("out/quick"))
        await until(service, job.name, lambda job: job.state is JobState.RUNNING)
        for name in ("slow-1", "slow-2"):
            await service.create(name, spec(f"out/{name}"))
        await slow.wait()
        runner.finish(job.id)
        runner.changed(job.id)
        await until(service, job.name, lambda job: job.state is JobState.SUCCEEDED)


async def test_what_another_process_wrote_is_the_truth() -> None:
    class Shared(MemoryStore):
        async def save(self, job: FinetuneJob) -> None:
            if self.jobs[job.id].cancel_requested and not job.cancel_requested:
                raise AbortedError("changed")
            await super().save(job)

    runner, store = FakeJobRunner(places=0), Shared()
    async with running(runner, store) as service:
        job = await service.create("r1", SPEC)
        await until(service, job.name, lambda job: job.conditions[-1].reason == "WAITING")
        store.jobs[job.id] = replace(store.jobs[job.id], cancel_requested=True)
        runner.places = 1
        assert (await until(service, job.name, lambda job: job.state.ended)).state is JobState.CANCELLED


async def test_a_job_whose_record_is_gone_is_gone() -> None:
    class Emptied(MemoryStore):
        async def save(self, job: FinetuneJob) -> None:
            self.jobs.clear()
            raise AbortedError("gone")

    async with running(FakeJobRunner(), Emptied()) as service:
        job = await service.create("r1", SPEC)
        with pytest.raises(NotFoundError):
            await until(service, job.name, lambda job: False)
        assert service.list() == []


async def test_an_ended_job_is_forgotten_after_its_time() -> None:
    runner, store = FakeJobRunner(), MemoryStore()
    async with running(runner, store, Limits(poll_seconds=0.005, keep_seconds=100)) as service:
        job = await service.create("r1", SPEC)
        await until(service, job.name, lambda job: job.state is JobState.RUNNING)
        runner.finish(job.id)
        await until(service, job.name, lambda job: job.state is JobState.SUCCEEDED)
        runner.now += 101
        async with asyncio.timeout(5):
            while service.list():
                await asyncio.sleep(0.005)
        assert runner.forgotten == [job.id] and store.jobs == {}


async def test_only_placements_that_are_offered_may_be_named() -> None:
    limits = Limits(poll_seconds=0.005, placements=frozenset({"big"}))
    async with running(FakeJobRunner(), limits=limits) as service:
        await service.create("r1", replace(SPEC, placement="big"))
        with pytest.raises(InvalidArgumentError, match=r"spec.placement: 'huge' is not offered here; there is: big"):
            await service.create("r2", replace(spec("out/b"), placement="huge"))


async def test_a_stalled_trainers_last_lines_are_kept() -> None:
    runner = FakeJobRunner()
    async with running(runner) as service:
        job = await service.create("r1", SPEC)
        await until(service, job.name, lambda job: job.state is JobState.RUNNING)
        runner.now += 61
        again = await until(service, job.name, lambda job: job.attempts == 2)
        assert any("its last line" in condition.message for condition in again.conditions)
