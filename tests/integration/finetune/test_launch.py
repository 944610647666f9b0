"""What a pod runs, with a trainer that follows orders: exit codes, termination messages, the copy in the store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ilf_common.artifacts import ArtifactStore
from ilf_common.templates import PromptTemplate
from services.finetune.models import FinetuneKind, FinetuneSpec
from services.finetune.trainer.job import TrainerJob, write_job
from services.finetune.trainer.outcome import EXIT_FAILED, EXIT_INTERRUPTED, PROGRESS_FILE, RESULT_FILE, read_progress

_PROGRAM = """
import os, sys
from pathlib import Path
from services.finetune.trainer.launch import Group, Launcher
group = Group(1, int(sys.argv[3]), 0, "127.0.0.1")
launcher = Launcher(group, Path(sys.argv[1]), Path(sys.argv[2]), trainer="tests.fakes.trainer")
sys.exit(launcher.run(os.environ["ILF_TRAINER_JOB"]))
"""


class Pod:
    def __init__(self, folder: Path, processes: int = 1, mirror: str = "", **orders: Any) -> None:
        self.folder = folder
        self.work = folder / "jobs" / "ft-1"
        self.work.mkdir(parents=True)
        (folder / "jobs" / "orders.json").write_text(json.dumps(orders))
        template = PromptTemplate("p", "{context}")
        spec = FinetuneSpec(FinetuneKind.SFT, "base", "data/rows.jsonl", "out/a", template=template)
        job = TrainerJob("ft-1", spec, str(folder / "store"), str(self.work), mirror=mirror)
        self._environment = {**os.environ, "ILF_TRAINER_JOB": write_job(job).decode()}
        self._processes = processes
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        scratch = tempfile.mkdtemp(dir=self.folder)
        arguments = [scratch, str(self.folder / "message"), str(self._processes)]
        return subprocess.Popen([sys.executable, "-c", _PROGRAM, *arguments], env=self._environment)

    @property
    def message(self) -> str:
        file = self.folder / "message"
        return file.read_text() if file.exists() else ""

    def wait_until(self, fits: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 60
        while not fits():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)


def test_a_trainer_that_publishes_ends_its_pod_well(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    assert pod.process.wait(60) == 0
    assert pod.message == "PUBLISHED: digest-of-a-fake"


def test_a_reason_becomes_the_termination_message(tmp_path: Path) -> None:
    pod = Pod(tmp_path, fail="BAD_DATA")
    assert pod.process.wait(60) == EXIT_FAILED
    assert pod.message == "BAD_DATA: as ordered"


def test_a_crash_leaves_the_message_to_the_log(tmp_path: Path) -> None:
    pod = Pod(tmp_path, crash_at={"1": 2})
    assert pod.process.wait(60) == 1
    assert pod.message == ""


def test_an_interrupted_trainer_says_so(tmp_path: Path) -> None:
    pod = Pod(tmp_path, step_seconds=60, interruptible=True)
    pod.wait_until(lambda: (pod.work / "starts.txt").exists())
    pod.process.send_signal(signal.SIGTERM)
    assert pod.process.wait(60) == EXIT_INTERRUPTED


@pytest.mark.engine
def test_torchrun_does_not_hide_the_reason(tmp_path: Path) -> None:
    pod = Pod(tmp_path, processes=2, fail="NAN_LOSS")
    assert pod.process.wait(120) == EXIT_FAILED
    assert pod.message == "NAN_LOSS: as ordered"


def test_progress_and_result_are_copied_to_the_store(tmp_path: Path) -> None:
    pod = Pod(tmp_path, mirror="finetune/ft-1", step_seconds=1.0)
    store = ArtifactStore(str(tmp_path / "store"))
    pod.wait_until(lambda: store.exists(f"finetune/ft-1/{PROGRESS_FILE}"))
    assert not store.exists(f"finetune/ft-1/{RESULT_FILE}")
    assert pod.process.wait(60) == 0
    assert json.loads(store.read_bytes(f"finetune/ft-1/{RESULT_FILE}"))["checkpoint_digest"] == "digest-of-a-fake"
    assert read_progress(tmp_path / "store" / "finetune" / "ft-1").step == 3


def test_a_job_that_is_done_is_not_trained_again(tmp_path: Path) -> None:
    pod = Pod(tmp_path)
    assert pod.process.wait(60) == 0
    starts = (pod.work / "starts.txt").read_text()
    assert pod.start().wait(60) == 0
    assert (pod.work / "starts.txt").read_text() == starts
