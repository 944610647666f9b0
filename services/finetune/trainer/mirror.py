"""A work directory that dies with its pod, copied to the artifact store: progress, result and whole checkpoints.

Every node copies the part of a checkpoint that lies on its own disk, and then a mark of its own; a checkpoint is
complete in the store when the marks of all nodes are there.
"""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from ilf_common.artifacts import ArtifactStore
from services.finetune.trainer.checkpoints import CHECKPOINTS, KEPT, MARK, checkpoint_step, complete_checkpoints
from services.finetune.trainer.outcome import PROGRESS_FILE, RESULT_FILE


class WorkMirror:
    """The copy of one job's work directory.

    Args:
        store: The artifact store.
        key: Where the copy lies.
        work_dir: The original, on this node's disk.
        node: Number of this node.
        nodes: How many there are.
    """

    def __init__(self, store: ArtifactStore, key: str, work_dir: Path, *, node: int, nodes: int) -> None:
        self._store = store
        self._key = key
        self._work_dir = work_dir
        self._node = node
        self._nodes = nodes
        self._sent: dict[str, int] = {}
        self._sent_steps: set[int] = set()
        self._sending: threading.Thread | None = None

    def restore(self) -> None:
        """Fetches what earlier attempts have left: the newest complete checkpoint, progress and result."""
        self._work_dir.mkdir(parents=True, exist_ok=True)
        for name in (PROGRESS_FILE, RESULT_FILE):
            if self._store.exists(f"{self._key}/{name}"):
                (self._work_dir / name).write_bytes(self._store.read_bytes(f"{self._key}/{name}"))
        steps = self._steps()
        complete = self._complete(steps)
        if not complete:
            return
        step = complete[-1]
        folder = self._work_dir / CHECKPOINTS / f"checkpoint-{step}"
        for name in sorted(steps[step] - self._marks()):
            self._fetch(step, name, folder / name)
        self._fetch(step, self._mark(0), folder / MARK)
        self._sent_steps.add(step)

    def send(self) -> None:
        """Sends what is new; checkpoints in the background, because they are large."""
        if self._node == 0:
            self._send_file(PROGRESS_FILE)
        if self._sending is None or not self._sending.is_alive():
            self._sending = threading.Thread(target=self._send_checkpoints, name="mirror")
            self._sending.start()

    def finish(self) -> None:
        """Sends the rest. A job with a result needs no checkpoints any more."""
        if self._sending is not None:
            self._sending.join()
        if not (self._work_dir / RESULT_FILE).exists():
            self._send_checkpoints()
        if self._node == 0:
            self._send_file(PROGRESS_FILE)
        self._send_file(RESULT_FILE)
        if self._node == 0 and (self._work_dir / RESULT_FILE).exists():
            self._store.delete(f"{self._key}/{CHECKPOINTS}")

    def _send_file(self, name: str) -> None:
        path = self._work_dir / name
        if path.exists() and self._sent.get(name) != (changed := path.stat().st_mtime_ns):
            self._store.write_bytes(f"{self._key}/{name}", path.read_bytes())
            self._sent[name] = changed

    def _send_checkpoints(self) -> None:
        sent = False
        for checkpoint in complete_checkpoints(self._work_dir / CHECKPOINTS):
            if checkpoint.step in self._sent_steps:
                continue
            try:
                for path in sorted(checkpoint.path.rglob("*")):
                    if path.is_file() and path.name != MARK:
                        self._upload(path, checkpoint.step, path.relative_to(checkpoint.path).as_posix())
                self._upload(checkpoint.path / MARK, checkpoint.step, self._mark(self._node))
            except FileNotFoundError:
                # Newer ones have taken its place on the disk meanwhile.
                continue
            self._sent_steps.add(checkpoint.step)
            sent = True
        if sent and self._node == 0:
            self._drop_old()

    def _drop_old(self) -> None:
        steps = self._steps()
        complete = self._complete(steps)
        for step in steps:
            if complete and step < complete[-KEPT:][0]:
                self._store.delete(self._folder(step))

    def _steps(self) -> dict[int, set[str]]:
        """Names of files in the store's checkpoints, by step."""
        root = f"{self._key}/{CHECKPOINTS}"
        found: dict[int, set[str]] = {}
        for key in self._store.list_files(root):
            folder, _, name = key[len(root) + 1 :].partition("/")
            step = checkpoint_step(folder)
            if step is not None:
                found.setdefault(step, set()).add(name)
        return found

    def _complete(self, steps: dict[int, set[str]]) -> list[int]:
        """The steps that have the marks of all nodes, the newest last."""
        return sorted(step for step, names in steps.items() if self._marks() <= names)

    def _upload(self, path: Path, step: int, name: str) -> None:
        with path.open("rb") as source:
            self._store.write(f"{self._folder(step)}/{name}", lambda target: shutil.copyfileobj(source, target))

    def _fetch(self, step: int, name: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._store.open(f"{self._folder(step)}/{name}") as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)

    def _folder(self, step: int) -> str:
        return f"{self._key}/{CHECKPOINTS}/checkpoint-{step}"

    def _marks(self) -> set[str]:
        return {self._mark(node) for node in range(self._nodes)}

    @staticmethod
    def _mark(node: int) -> str:
        return f"{node}-{MARK}"
