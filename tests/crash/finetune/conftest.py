"""Real trainers and real services as processes that tests kill."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.finetune.trainer.job import TrainerJob, write_job
from tests.integration.finetune.conftest import Workshop, base_model, workshop

__all__ = ["base_model", "workshop"]


def wait_until(fits: Callable[[], Any], seconds: float = 180.0) -> Any:
    """The first true value of a condition on files or processes."""
    deadline = time.monotonic() + seconds
    while not (value := fits()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return value


def kill(pid: int) -> None:
    """kill -9, and wait for the end."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: is_dead(pid))


def is_dead(pid: int) -> bool:
    """Whether a process has ended, collected by its parent or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def start_trainer(job: TrainerJob) -> subprocess.Popen[bytes]:
    """A trainer process of its own."""
    work = Path(job.work_dir)
    work.mkdir(parents=True, exist_ok=True)
    (work / "trainer.json").write_bytes(write_job(job))
    with (work / "trainer.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "services.finetune.trainer", "--job", str(work / "trainer.json")],
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


class ServiceProcess:
    """`python -m services.finetune` on a workshop's store, as often as it is started."""

    def __init__(self, workshop: Workshop) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._log = workshop.folder / "service.log"
        self._environment = {
            **os.environ,
            "ILF_FINETUNE__SERVER__PORT": str(self.port),
            "ILF_FINETUNE__SERVER__METRICS_PORT": "0",
            "ILF_FINETUNE__STORE__ROOT": str(workshop.folder / "store"),
            "ILF_FINETUNE__STATE_DIR": str(workshop.folder / "state"),
            "ILF_FINETUNE__TRAINER__THREADS": "1",
            "ILF_FINETUNE__TRAINER__DEVICE": "cpu",
            "ILF_FINETUNE__MODEL_ROOTS": f'["{workshop.base_model}"]',
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.finetune"], stdout=log, stderr=log, env=self._environment
            )

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@pytest.fixture
def service(workshop: Workshop) -> Iterator[ServiceProcess]:
    process = ServiceProcess(workshop)
    process.start()
    yield process
    process.kill()
    jobs = workshop.folder / "state" / "jobs"
    for found in psutil.process_iter(["cmdline"]):
        if any(str(jobs) in part for part in found.info["cmdline"] or ()):
            found.kill()
