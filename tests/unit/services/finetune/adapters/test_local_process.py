from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from ilf_common.templates import PromptTemplate
from services.finetune.adapters.local_process import JOB_FILE, LocalLimits, LocalProcessRunner
from services.finetune.models import FinetuneJob, FinetuneKind, FinetuneSpec, JobState
from services.finetune.ports import Observation, RunnerPhase
from services.finetune.trainer.job import Runtime

SPEC = FinetuneSpec(FinetuneKind.SFT, "base", "d.jsonl", "out", template=PromptTemplate("p", "{context}"))


def job(job_id: str) -> FinetuneJob:
    return FinetuneJob(job_id, job_id, SPEC, JobState.PENDING, 1.0, base_source="/models/base")


@pytest.fixture
async def new_runner(tmp_path: Path) -> AsyncIterator[Callable[..., LocalProcessRunner]]:
    """Runners on one folder, as successive services would have them; what they started is ended afterwards."""
    made: list[LocalProcessRunner] = []

    def make(**limits: int) -> LocalProcessRunner:
        runner = LocalProcessRunner(
            tmp_path / "jobs",
            str(tmp_path / "store"),
            Runtime(nice=1),
            LocalLimits(**limits),
            trainer="tests.fakes.trainer",
        )
        made.append(runner)
        return runner

    yield make
    for folder in (tmp_path / "jobs").iterdir():
        if folder.is_dir():
            for runner in made:
                await runner.stop(job(folder.name))


def order(tmp_path: Path, **orders: Any) -> None:
    (tmp_path / "jobs").mkdir(exist_ok=True)
    (tmp_path / "jobs" / "orders.json").write_text(json.dumps(orders))


async def until(runner: LocalProcessRunner, job_id: str, fits: Callable[[Observation], bool]) -> Observation:
    async with asyncio.timeout(20):
        while not fits(seen := await runner.observe(job(job_id))):
            await asyncio.sleep(0.02)
    return seen


def starts(tmp_path: Path, job_id: str) -> list[int]:
    return [int(pid) for pid in (tmp_path / "jobs" / job_id / "starts.txt").read_text().split()]


async def test_a_job_nobody_started_is_absent(new_runner: Callable[..., LocalProcessRunner], tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    assert (await new_runner().observe(job("ft-none"))).phase is RunnerPhase.ABSENT


async def test_a_trainer_runs_in_its_own_session_and_its_result_is_found(
    new_runner: Callable[..., LocalProcessRunner], tmp_path: Path
) -> None:
    order(tmp_path, step_seconds=0.2)
    runner = new_runner()
    started = await runner.start(job("ft-a"))
    assert (started.phase, started.attempts) == (RunnerPhase.RUNNING, 1)
    pid = json.loads((tmp_path / "jobs/ft-a/process.json").read_text())["pid"]
    assert os.getsid(pid) == pid
    spec = json.loads((tmp_path / "jobs/ft-a" / JOB_FILE).read_text())["spec"]
    assert spec["base_model"] == "/models/base"
    ended = await until(runner, "ft-a", lambda seen: seen.phase is RunnerPhase.ENDED)
    assert ended.checkpoint_digest == "digest-of-a-fake"
    assert ended.progress.step == 3


async def test_a_refused_job_brings_its_reason(new_runner: Callable[..., LocalProcessRunner], tmp_path: Path) -> None:
    order(tmp_path, fail="BAD_DATA")
    runner = new_runner()
    await runner.start(job("ft-a"))
    ended = await until(runner, "ft-a", lambda seen: seen.phase is RunnerPhase.ENDED)
    assert ended.failure is not None
    assert (ended.failure.reason, ended.failure.message) == ("BAD_DATA", "as ordered")


async def test_a_trainer_that_died_is_absent_and_goes_on_where_it_was(
    new_runner: Callable[..., LocalProcessRunner], tmp_path: Path
) -> None:
    order(tmp_path, crash_at={"1": 2})
    runner = new_runner()
    await runner.start(job("ft-a"))
    dead = await until(runner, "ft-a", lambda seen: seen.phase is RunnerPhase.ABSENT)
    assert (dead.attempts, dead.progress.step) == (1, 1)
    assert "exit code 1" in dead.message and "trainer.log" in dead.message
    assert (await runner.start(job("ft-a"))).attempts == 2
    await until(runner, "ft-a", lambda seen: seen.phase is RunnerPhase.ENDED)


async def test_jobs_beyond_the_places_wait(new_runner: Callable[..., LocalProcessRunner], tmp_path: Path) -> None:
    order(tmp_path, step_seconds=30)
    runner = new_runner(max_running=1)
    await runner.start(job("ft-a"))
    waiting = await runner.start(job("ft-b"))
    assert (waiting.phase, waiting.attempts) == (RunnerPhase.WAITING, 0)
    assert "1 places" in waiting.message
    await runner.stop(job("ft-a"))
    assert (await runner.start(job("ft-b"))).phase is RunnerPhase.RUNNING


async def test_the_next_service_finds_a_running_trainer(
    new_runner: Callable[..., LocalProcessRunner], tmp_path: Path
) -> None:
    order(tmp_path, step_seconds=0.3)
    await new_runner().start(job("ft-a"))
    successor = new_runner()
    assert (await successor.observe(job("ft-a"))).phase is RunnerPhase.RUNNING
    ended = await until(successor, "ft-a", lambda seen: seen.phase is RunnerPhase.ENDED)
    assert ended.attempts == 1
    assert len(starts(tmp_path, "ft-a")) == 1


async def test_a_trainer_whose_start_was_not_written_down_is_adopted(
    new_runner: Callable[..., LocalProcessRunner], tmp_path: Path
) -> None:
    order(tmp_path, step_seconds=0.3)
    await new_runner().start(job("ft-a"))
    (tmp_path / "jobs/ft-a/process.json").unlink()
    successor = new_runner()
    adopted = await successor.start(job("ft-a"))
    assert (adopted.phase, adopted.attempts) == (RunnerPhase.RUNNING, 1)
    await until(successor, "ft-a", lambda seen: seen.phase is RunnerPhase.ENDED)
    assert len(starts(tmp_path, "ft-a")) == 1


async def test_a_reused_process_id_is_not_the_trainer(
    new_runner: Callable[..., LocalProcessRunner], tmp_path: Path
) -> None:
    folder = tmp_path / "jobs" / "ft-a"
    folder.mkdir(parents=True)
    own = psutil.Process()
    record = {"pid": own.pid, "started": own.create_time() - 100, "attempt": 1}
    (folder / "process.json").write_text(json.dumps(record))
    assert (await new_runner().observe(job("ft-a"))).phase is RunnerPhase.ABSENT


async def test_stop_ends_every_process_of_the_job_and_no_other(
    new_runner: Callable[..., LocalProcessRunner], tmp_path: Path
) -> None:
    order(tmp_path, step_seconds=30)
    runner = new_runner(max_running=2)
    await runner.start(job("ft-a"))
    await runner.start(job("ft-b"))
    # A worker that torchrun would have started, in another session.
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.trainer", "--job", str(tmp_path / "jobs/ft-a" / JOB_FILE)],
        start_new_session=True,
    )
    await runner.stop(job("ft-a"))
    assert not psutil.pid_exists(worker.pid)
    assert (await runner.observe(job("ft-a"))).phase is RunnerPhase.ABSENT
    assert (await runner.observe(job("ft-b"))).phase is RunnerPhase.RUNNING
