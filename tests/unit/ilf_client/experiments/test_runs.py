"""Runs and jobs of a step are found again, gone on with, or followed by another attempt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from ilf_client import AsyncClient
from ilf_client.experiments.lab import Lab, Shelf
from ilf_client.experiments.runs import finished_job, finished_run
from ilf_client.experiments.task import Task
from ilf_client.models.jobs import FinetuneJob, FinetuneKind, FinetuneSpec, JobState
from ilf_client.models.runs import Run, RunState
from ilf_client.models.specs import RunSpec
from ilf_common.errors import FailedPreconditionError, NotFoundError
from tests.unit.ilf_client.experiments.support import Base, FakeTask

STEP = Base(1)
JOB = FinetuneSpec(FinetuneKind.SFT, "base", "data", "out")


class Runs:
    """One run, in the state it is found in; it ends as it is told."""

    def __init__(self, found: RunState | None, end: RunState) -> None:
        self.found, self.end = found, end
        self.calls: list[str] = []

    async def get(self, name: str) -> Run:
        if self.found is None:
            raise NotFoundError("no", resource_type="run", resource_name=name)
        return Run(f"runs/{name}", RunSpec(), self.found)

    async def create(self, spec: RunSpec, *, run_id: str, request_id: str) -> Run:
        self.calls.append("create")
        return Run(f"runs/{run_id}", spec, RunState.PENDING)

    async def resume(self, name: str) -> Run:
        self.calls.append("resume")
        return Run(name, RunSpec(), RunState.RUNNING)

    async def watch(self, name: str) -> AsyncIterator[Run]:
        self.calls.append("watch")
        yield Run(name, RunSpec(), RunState.RUNNING)
        yield Run(name, RunSpec(), self.end)


class Jobs:
    """Jobs by attempt; a fresh one is pending and ends as it is told."""

    def __init__(self, found: Sequence[JobState], end: JobState) -> None:
        self.found, self.end = list(found), end
        self.requests: list[str] = []

    async def create(self, spec: FinetuneSpec, *, request_id: str) -> FinetuneJob:
        self.requests.append(request_id)
        state = self.found.pop(0) if self.found else JobState.PENDING
        return FinetuneJob(f"jobs/{len(self.requests)}", spec, state)

    async def get(self, name: str) -> FinetuneJob:
        return FinetuneJob(name, JOB, JobState.RUNNING)

    async def watch(self, name: str) -> AsyncIterator[FinetuneJob]:
        yield FinetuneJob(name, JOB, self.end)


class Client:
    def __init__(self, runs: Runs | None = None, jobs: Jobs | None = None) -> None:
        self.runs, self.jobs = runs, jobs


def lab(folder: Path, client: Client) -> Lab:
    return Lab(cast(AsyncClient, client), Shelf(cast(Task, FakeTask()), {}, folder))


@pytest.mark.parametrize(
    ("found", "calls"),
    [
        (None, ["create", "watch"]),
        (RunState.RUNNING, ["watch"]),
        (RunState.SUCCEEDED, ["watch"]),
        (RunState.FAILED, ["resume", "watch"]),
        (RunState.CANCELLED, ["resume", "watch"]),
    ],
)
async def test_a_run_is_created_once_and_gone_on_with(
    tmp_path: Path, found: RunState | None, calls: Sequence[str]
) -> None:
    runs = Runs(found, RunState.SUCCEEDED)
    run = await finished_run(lab(tmp_path, Client(runs=runs)), STEP, RunSpec())
    assert run.state is RunState.SUCCEEDED and runs.calls == calls
    assert run.name == f"runs/{lab(tmp_path, Client()).name(STEP)}"


async def test_a_run_that_fails_again_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(FailedPreconditionError, match=r"base 1: runs/exp-\w+ failed") as error:
        await finished_run(lab(tmp_path, Client(runs=Runs(RunState.FAILED, RunState.FAILED))), STEP, RunSpec())
    assert error.value.reason == "RUN_FAILED"


async def test_a_job_that_is_done_or_in_work_is_not_created_twice(tmp_path: Path) -> None:
    for state in (JobState.SUCCEEDED, JobState.RUNNING):
        jobs = Jobs([state], JobState.SUCCEEDED)
        job = await finished_job(lab(tmp_path, Client(jobs=jobs)), STEP, JOB)
        assert job.state is JobState.SUCCEEDED and len(jobs.requests) == 1


async def test_a_job_that_failed_earlier_is_followed_by_another(tmp_path: Path) -> None:
    jobs = Jobs([JobState.FAILED, JobState.CANCELLED], JobState.SUCCEEDED)
    job = await finished_job(lab(tmp_path, Client(jobs=jobs)), STEP, JOB)
    assert job.name == "jobs/3" and len(set(jobs.requests)) == 3


async def test_a_job_that_fails_now_is_an_error(tmp_path: Path) -> None:
    for jobs in (Jobs([], JobState.FAILED), Jobs(3 * [JobState.FAILED], JobState.SUCCEEDED)):
        with pytest.raises(FailedPreconditionError, match=r"base 1: jobs/\d failed") as error:
            await finished_job(lab(tmp_path, Client(jobs=jobs)), STEP, JOB)
        assert error.value.reason == "JOB_FAILED"
