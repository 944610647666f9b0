"""`python -m services.finetune.trainer.launch`: what a pod runs; starts the trainer, under torchrun where it is many.

It brings the work directory when that lies in an object store, hands signals on, leaves the reason of a failure as
the pod's termination message, and tells by its exit code whether an attempt was used up (`exits.verdict`).
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ilf_common.artifacts import ArtifactStore
from services.finetune.trainer.exits import EXITS_VARIABLE, read_exits, verdict
from services.finetune.trainer.job import TrainerJob, read_job
from services.finetune.trainer.mirror import WorkMirror
from services.finetune.trainer.outcome import EXIT_FAILED, EXIT_INTERRUPTED, TrainerError, TrainerResult, read_result
from services.finetune.trainer.outcome import write_result as write_result_file
from services.finetune.trainer.publishing import already_published

JOB_VARIABLE = "ILF_TRAINER_JOB"
"""Environment variable with the job as JSON."""
RENDEZVOUS_PORT = 29500
_SECONDS = 1.0
_MESSAGE_BYTES = 4000


@dataclass(frozen=True)
class Group:
    """The processes that train together.

    Attributes:
        nodes: Pods.
        processes: Processes of one pod.
        index: Number of this pod.
        master: Address of pod 0.
    """

    nodes: int
    processes: int
    index: int
    master: str


def main() -> int:
    """Runs the job of the environment; answers the pod's exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.finetune.trainer.launch", description=__doc__)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1, help="processes of one pod")
    parser.add_argument("--master", default="127.0.0.1", help="address of pod 0, for several pods")
    parser.add_argument("--message", type=Path, default=Path("/dev/termination-log"))
    options = parser.parse_args()
    index = int(os.environ.get("JOB_COMPLETION_INDEX", "0"))
    group = Group(options.nodes, options.processes, index, options.master)
    with tempfile.TemporaryDirectory(prefix="ilf-") as scratch:
        return Launcher(group, Path(scratch), options.message).run(os.environ[JOB_VARIABLE])


class Launcher:
    """One pod's part of a job.

    Args:
        group: Who trains together.
        scratch: An empty folder.
        message: File that becomes the pod's termination message.
        trainer: The module that is run with `--job FILE`.
    """

    def __init__(
        self, group: Group, scratch: Path, message: Path, *, trainer: str = "services.finetune.trainer"
    ) -> None:
        self._group = group
        self._scratch = scratch
        self._exits = scratch / "exits"
        self._exits.mkdir()
        self._message = message
        self._trainer = trainer
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()

    def run(self, job_json: str) -> int:
        """Runs a job; answers the pod's exit code."""
        signal.signal(signal.SIGTERM, self._stop)
        file = self._scratch / "trainer.json"
        file.write_text(job_json, encoding="utf-8")
        try:
            job = read_job(file)
            store = ArtifactStore(job.store_root)
            mirror = self._mirror(job, store)
            code = 0 if self._is_done(job, store) else self._train(file, mirror)
        except TrainerError as error:
            self._say(f"{error.reason.value}: {error.message}")
            return EXIT_FAILED
        if mirror is not None:
            mirror.finish()
        result = read_result(Path(job.work_dir))
        if result is not None and result.reason is not None:
            self._say(f"{result.reason.value}: {result.message}")
            return EXIT_FAILED
        if result is not None:
            self._say(f"PUBLISHED: {result.checkpoint_digest}")
        return code

    def _mirror(self, job: TrainerJob, store: ArtifactStore) -> WorkMirror | None:
        if not job.mirror:
            return None
        work_dir = Path(job.work_dir)
        mirror = WorkMirror(store, job.mirror, work_dir, node=self._group.index, nodes=self._group.nodes)
        mirror.restore()
        return mirror

    def _is_done(self, job: TrainerJob, store: ArtifactStore) -> bool:
        """Whether an earlier attempt has ended the job: the other pods may be gone, so nobody would meet this one."""
        work_dir = Path(job.work_dir)
        if read_result(work_dir) is not None:
            return True
        digest = already_published(job, store)
        if digest is None:
            return False
        work_dir.mkdir(parents=True, exist_ok=True)
        write_result_file(work_dir, TrainerResult(digest, message="Published by an earlier attempt."))
        return True

    def _train(self, file: Path, mirror: WorkMirror | None) -> int:
        if self._stopping.is_set():
            return EXIT_INTERRUPTED
        command = [sys.executable, *launcher_arguments(self._group), "-m", self._trainer, "--job", str(file)]
        self._child = subprocess.Popen(command, env={**os.environ, EXITS_VARIABLE: str(self._exits)})
        if self._stopping.is_set():
            self._stop()
        while True:
            try:
                code = self._child.wait(_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if mirror is not None:
                    mirror.send()
        exits = read_exits(self._exits)
        return EXIT_INTERRUPTED if self._stopping.is_set() and code != 0 and not exits else verdict(code, exits)

    def _stop(self, *_: object) -> None:
        """Asks the trainers themselves to stop: torchrun would give them too little time for a checkpoint."""
        self._stopping.set()
        if self._child is None:
            return
        trainers = read_exits(self._exits)
        for pid in [one.pid for one in trainers if one.code is None] or [self._child.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _say(self, text: str) -> None:
        """Leaves the termination message; pods have a file for it, other places need not."""
        with suppress(OSError):
            self._message.write_bytes(text.encode()[:_MESSAGE_BYTES])


def launcher_arguments(group: Group) -> Sequence[str]:
    """Arguments of Python that come before the trainer's: none for a process alone, torchrun for many."""
    if group.nodes * group.processes == 1:
        return []
    torchrun = ["-m", "torch.distributed.run", f"--nproc-per-node={group.processes}", "--max-restarts=0"]
    if group.nodes == 1:
        return [*torchrun, "--standalone"]
    # Pod 0 is its own master, and need not wait until the name service knows it.
    master = os.environ.get("POD_IP", group.master) if group.index == 0 else group.master
    return [
        *torchrun,
        f"--nnodes={group.nodes}",
        f"--node-rank={group.index}",
        f"--master-addr={master}",
        f"--master-port={RENDEZVOUS_PORT}",
    ]


if __name__ == "__main__":
    sys.exit(main())
