"""What every job runner keeps to: the same tests for trainers as child processes and as Kubernetes Jobs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

import pytest

from ilf_common.artifacts import ArtifactStore
from ilf_common.templates import PromptTemplate
from services.finetune.adapters.kubernetes_api import Cluster
from services.finetune.adapters.kubernetes_jobs import KubernetesJobRunner
from services.finetune.adapters.kubernetes_manifests import Manifests
from services.finetune.adapters.kubernetes_store import ConfigMapJobs
from services.finetune.adapters.local_process import LocalLimits, LocalProcessRunner
from services.finetune.adapters.work_folders import WorkFolders
from services.finetune.models import FinetuneJob, FinetuneKind, FinetuneSpec, JobState, job_id_of
from services.finetune.ports import JobRunner, Observation, RunnerPhase
from services.finetune.settings import KubernetesSettings
from services.finetune.trainer.job import Runtime
from services.finetune.trainer.outcome import TrainerResult, write_result
from tests.fakes.kubernetes_api import FakeApiServer, Object

SPEC = FinetuneSpec(FinetuneKind.SFT, "base", "d.jsonl", "out", template=PromptTemplate("p", "{context}"))
JOB = FinetuneJob(job_id_of("r1"), "r1", SPEC, JobState.PENDING, 1.0, base_source="/models/base")
AT = "2026-01-01T00:00:00Z"


class Backend(Protocol):
    async def runner(self) -> JobRunner:
        """A runner, as successive processes of the service would have it."""
        ...

    def finish(self) -> None:
        """The trainer publishes."""
        ...


class Local:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "jobs").mkdir()
        (folder / "jobs" / "orders.json").write_text(json.dumps({"step_seconds": 60}))

    async def runner(self) -> JobRunner:
        limits = LocalLimits(max_running=1)
        store = str(self.folder / "store")
        runner = LocalProcessRunner(self.folder / "jobs", store, Runtime(nice=1), limits, trainer="tests.fakes.trainer")
        await runner.open(lambda _: None)
        return runner

    def finish(self) -> None:
        from services.finetune.adapters.local_process import _kill_trainers

        _kill_trainers(self.folder / "jobs" / JOB.id)
        write_result(self.folder / "jobs" / JOB.id, TrainerResult("d1"))


class ApiServerWithKubelet(FakeApiServer):
    """Pods of Jobs run at once, and go when their Jobs do."""

    def put(self, plural: str, found: Object) -> Object:
        kept = super().put(plural, found)
        if plural == "jobs":
            state = {"running": {"startedAt": AT}}
            status = {"phase": "Running", "containerStatuses": [{"name": "trainer", "state": state}]}
            name = f"{found['metadata']['name']}-0-x"
            super().put("pods", {"metadata": {"name": name, "annotations": {}}, "status": status})
        return kept

    def remove(self, plural: str, name: str) -> None:
        super().remove(plural, name)
        if plural == "jobs":
            super().remove("pods", f"{name}-0-x")


class Kubernetes:
    def __init__(self, folder: Path, api: FakeApiServer, cluster: Cluster) -> None:
        self.folder, self.api, self.cluster = folder, api, cluster

    async def runner(self) -> JobRunner:
        store = ConfigMapJobs(self.cluster, "one")
        await store.add(JOB)
        settings = KubernetesSettings(image="ilf/trainer:1", kind="job", progress_seconds=0.05)
        manifests = Manifests(settings, Runtime(), str(self.folder / "store"), max_attempts=3)
        folders = WorkFolders(ArtifactStore(str(self.folder / "store")))
        runner = KubernetesJobRunner(self.cluster, manifests, folders, store.owner_of)
        await runner.open(lambda _: None)
        return runner

    def finish(self) -> None:
        work = self.folder / "store" / "finetune" / JOB.id
        work.mkdir(parents=True)
        write_result(work, TrainerResult("d1"))
        job = self.api.objects[f"jobs/{JOB.id}"]
        condition = {"type": "Complete", "status": "True"}
        FakeApiServer.put(self.api, "jobs", {**job, "status": {"conditions": [condition]}})


@pytest.fixture
def api() -> FakeApiServer:
    return ApiServerWithKubelet()


@pytest.fixture(params=["local", "kubernetes"])
async def backend(
    request: pytest.FixtureRequest, tmp_path: Path, api: FakeApiServer, cluster: Cluster
) -> AsyncIterator[Backend]:
    backend: Backend = Local(tmp_path) if request.param == "local" else Kubernetes(tmp_path, api, cluster)
    opened: list[JobRunner] = []
    make = backend.runner

    async def runner() -> JobRunner:
        opened.append(await make())
        return opened[-1]

    backend.runner = runner  # type: ignore[method-assign]
    yield backend
    for one in opened[:1]:
        await one.stop(JOB)
    for one in opened:
        await one.close()


async def until(runner: JobRunner, fits: Callable[[Observation], bool]) -> Observation:
    async with asyncio.timeout(10):
        while not fits(seen := await runner.observe(JOB)):
            await asyncio.sleep(0.02)
    return seen


async def test_a_job_that_nobody_started_is_absent(backend: Backend) -> None:
    assert (await (await backend.runner()).observe(JOB)).phase is RunnerPhase.ABSENT


async def test_a_started_trainer_runs_and_a_second_start_leaves_it_alone(backend: Backend) -> None:
    runner = await backend.runner()
    await runner.start(JOB)
    first = await until(runner, lambda seen: seen.phase is RunnerPhase.RUNNING)
    assert first.attempts == 1
    await runner.start(JOB)
    again = await until(runner, lambda seen: seen.phase is RunnerPhase.RUNNING)
    assert (again.attempts, again.since) == (1, first.since)


async def test_the_next_process_finds_it(backend: Backend) -> None:
    before = await backend.runner()
    await before.start(JOB)
    await until(before, lambda seen: seen.phase is RunnerPhase.RUNNING)
    after = await backend.runner()
    assert (await after.observe(JOB)).phase is RunnerPhase.RUNNING


async def test_after_stop_it_is_gone_and_may_be_stopped_again(backend: Backend) -> None:
    runner = await backend.runner()
    await runner.start(JOB)
    await until(runner, lambda seen: seen.phase is RunnerPhase.RUNNING)
    await runner.stop(JOB)
    assert (await runner.observe(JOB)).phase is RunnerPhase.ABSENT
    await runner.stop(JOB)


async def test_its_result_is_found(backend: Backend) -> None:
    runner = await backend.runner()
    await runner.start(JOB)
    await until(runner, lambda seen: seen.phase is RunnerPhase.RUNNING)
    await asyncio.to_thread(backend.finish)
    ended = await until(runner, lambda seen: seen.phase is RunnerPhase.ENDED)
    assert (ended.checkpoint_digest, ended.failure) == ("d1", None)


async def test_what_an_ended_job_left_is_forgotten(backend: Backend) -> None:
    runner = await backend.runner()
    await runner.start(JOB)
    await until(runner, lambda seen: seen.phase is RunnerPhase.RUNNING)
    await runner.stop(JOB)
    await runner.forget(JOB)
    seen = await runner.observe(JOB)
    assert (seen.phase, seen.attempts) == (RunnerPhase.ABSENT, 0)


async def test_a_job_that_the_cluster_cannot_take_now_says_why_it_waits(
    tmp_path: Path, api: FakeApiServer, cluster: Cluster
) -> None:
    runner = await Kubernetes(tmp_path, api, cluster).runner()
    api.refuse = lambda method, plural: (500, "InternalError", "failed calling webhook") if method == "POST" else None
    seen = await runner.start(JOB)
    assert (seen.phase, seen.reason) == (RunnerPhase.WAITING, "UNAVAILABLE")
    assert "failed calling webhook" in seen.message
    api.refuse = lambda method, plural: None
    await runner.start(JOB)
    await until(runner, lambda seen: seen.phase is RunnerPhase.RUNNING)
    await runner.stop(JOB)
    await runner.close()
