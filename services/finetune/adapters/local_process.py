"""Trainers as child processes of this machine.

A job's folder is the truth about its trainer: `job.json` says what to do, `process.json` which process does it,
`progress.json` and `result.json` come from the trainer. A trainer lives in a session of its own and outlives the
service; the next service finds it by its folder.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from services.finetune.models import FinetuneJob, JobFailure
from services.finetune.ports import Observation, RunnerPhase
from services.finetune.trainer.job import TRACEPARENT, Runtime, TrainerJob, write_job
from services.finetune.trainer.outcome import read_progress, read_result, replace_file

JOB_FILE = "trainer.json"
LOG_FILE = "trainer.log"
_PROCESS_FILE = "process.json"
_KILL_SECONDS = 30.0


@dataclass(frozen=True)
class LocalLimits:
    """How much of the machine trainers may take.

    Attributes:
        max_running: Trainers at once; further jobs wait.
        processes: Processes of one trainer; more than 1 starts them with torchrun.
    """

    max_running: int = 1
    processes: int = 1


@dataclass(frozen=True)
class _Process:
    """The trainer process that a folder names; its start time tells it from a later process with the same id."""

    pid: int
    started: float
    attempt: int


class LocalProcessRunner:
    """Runs trainers on this machine, each in a process session of its own.

    Args:
        folder: Holds one folder per job.
        store_root: Root of the artifact store, for the trainers.
        runtime: How trainers compute.
        limits: How many at once.
        trainer: The module that is run with `--job FILE`.
    """

    def __init__(
        self,
        folder: Path,
        store_root: str,
        runtime: Runtime,
        limits: LocalLimits,
        *,
        trainer: str = "services.finetune.trainer",
    ) -> None:
        self._folder = folder.resolve()
        self._store_root = store_root
        self._runtime = runtime
        self._limits = limits
        self._trainer = trainer
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._running: set[str] = set()

    async def open(self, changed: Callable[[str], None]) -> None:
        """Nothing to do: trainers are looked at when the service asks."""

    async def close(self) -> None:
        """Nothing to do: trainers go on."""

    async def observe(self, job: FinetuneJob) -> Observation:
        """Reads the job's folder and looks for its process."""
        job_id = job.id
        folder = self._folder / job_id
        process = _read_process(folder)
        alive = process is not None and self._is_alive(job_id, process)
        result = None if alive else read_result(folder)
        (self._running.add if alive else self._running.discard)(job_id)
        seen = Observation(
            RunnerPhase.RUNNING if alive else RunnerPhase.ABSENT,
            attempts=process.attempt if process else 0,
            since=process.started if process else None,
            progress=read_progress(folder),
        )
        if result is None:
            return seen if alive else replace(seen, message=self._last_words(job_id))
        failure = JobFailure(result.reason.value, result.message) if result.reason else None
        return replace(seen, phase=RunnerPhase.ENDED, checkpoint_digest=result.checkpoint_digest, failure=failure)

    async def start(self, job: FinetuneJob) -> Observation:
        """Starts the job's trainer where there is a place for it."""
        folder = self._folder / job.id
        process = _read_process(folder)
        orphans = _find_trainers(folder) if process is None else []
        if orphans:
            # The service died between the start of the process and the writing of its file.
            oldest = min(orphans, key=lambda found: found.create_time())
            _write_process(folder, _Process(oldest.pid, oldest.create_time(), 1))
            return await self.observe(job)
        if len(self._running) >= self._limits.max_running:
            message = f"Waits for one of {self._limits.max_running} places; {len(self._running)} jobs are running."
            return replace(await self.observe(job), phase=RunnerPhase.WAITING, message=message)
        folder.mkdir(parents=True, exist_ok=True)
        self._write_job(folder, job)
        child = self._spawn(folder, job.traceparent)
        self._children[job.id] = child
        started = _start_time(child.pid) or time.time()
        _write_process(folder, _Process(child.pid, started, (process.attempt if process else 0) + 1))
        return await self.observe(job)

    async def stop(self, job: FinetuneJob) -> str:
        """Kills the job's processes, torchrun's workers in their own sessions included, and waits for their end."""
        await asyncio.to_thread(_kill_trainers, self._folder / job.id)
        child = self._children.pop(job.id, None)
        if child is not None:
            child.wait()
        self._running.discard(job.id)
        return f"Its log is {self._folder / job.id / LOG_FILE}."

    async def forget(self, job: FinetuneJob) -> None:
        """Deletes the job's folder."""
        await asyncio.to_thread(shutil.rmtree, self._folder / job.id, ignore_errors=True)

    def _write_job(self, folder: Path, job: FinetuneJob) -> None:
        spec = replace(job.spec, base_model=job.base_source)
        trainer = TrainerJob(job.id, spec, self._store_root, str(folder), self._runtime)
        replace_file(folder / JOB_FILE, write_job(trainer), durable=True)

    def _spawn(self, folder: Path, traceparent: str) -> subprocess.Popen[bytes]:
        launcher = ["-m", self._trainer]
        if self._limits.processes > 1:
            each = f"--nproc-per-node={self._limits.processes}"
            launcher = ["-m", "torch.distributed.run", "--standalone", each, "-m", self._trainer]
        with (folder / LOG_FILE).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *launcher, "--job", str(folder / JOB_FILE)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(self._runtime, traceparent),
                # Signals to the service's group are not meant for trainers.
                start_new_session=True,
            )

    def _is_alive(self, job_id: str, process: _Process) -> bool:
        child = self._children.get(job_id)
        if child is not None and child.pid == process.pid:
            return child.poll() is None
        return _start_time(process.pid) == process.started

    def _last_words(self, job_id: str) -> str:
        child = self._children.get(job_id)
        code = child.returncode if child is not None else None
        ended = "it is gone" if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"{ended}; its log is {self._folder / job_id / LOG_FILE}"


def _environment(runtime: Runtime, traceparent: str) -> Mapping[str, str]:
    threads = {"OMP_NUM_THREADS": str(runtime.threads)} if runtime.threads else {}
    trace = {TRACEPARENT: traceparent} if traceparent else {}
    return {**os.environ, **threads, **trace}


def _read_process(folder: Path) -> _Process | None:
    try:
        return _Process(**json.loads((folder / _PROCESS_FILE).read_bytes()))
    except FileNotFoundError:
        return None


def _write_process(folder: Path, process: _Process) -> None:
    replace_file(folder / _PROCESS_FILE, json.dumps(asdict(process)).encode(), durable=True)


def _start_time(pid: int) -> float | None:
    """When a process started; None when there is none, or only what its parent has not collected yet."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None


def _find_trainers(folder: Path) -> list[psutil.Process]:
    """All live processes that train in a folder."""
    wanted = str(folder / JOB_FILE)
    return [process for process in psutil.process_iter(["cmdline"]) if wanted in (process.info["cmdline"] or ())]


def _kill_trainers(folder: Path) -> None:
    deadline = time.monotonic() + _KILL_SECONDS
    while found := _find_trainers(folder):
        for process in found:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        # Short: what a slow parent has not collected yet stays listed, though it is dead.
        psutil.wait_procs(found, timeout=0.1)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(found)} processes of {folder.name} do not end")
