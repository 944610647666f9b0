"""Checkpoints to resume from. One without its mark is half written and does not count."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from services.finetune.trainer.outcome import replace_file

CHECKPOINTS = "checkpoints"
"""Folder of the work directory."""
KEPT = 2
"""So many, so that the newest complete one outlives the writing of the next."""
MARK = "ilf_complete.json"
MOST_LOSSES = 100
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass
class Tally:
    """Sums over the steps of a whole run, attempts before this one included.

    Attributes:
        steps: Optimizer steps.
        loss: Sum of their losses.
        last_loss: Of the newest step.
        right: Comparisons that the model got right at the time it saw them.
        compared: Comparisons seen.
        losses: Every so many steps, the step and its loss: at most `MOST_LOSSES`.
        stride: So many steps lie between two of them; it doubles when they are too many.
    """

    steps: int = 0
    loss: float = 0.0
    last_loss: float = 0.0
    right: float = 0.0
    compared: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list)
    stride: int = 1

    def add(self, loss: float, right: float, compared: float) -> None:
        """Adds one step."""
        self.steps += 1
        self.loss += loss
        self.last_loss = loss
        self.right += right
        self.compared += compared
        if self.steps % self.stride == 0:
            self.losses.append((self.steps, loss))
        if len(self.losses) > MOST_LOSSES:
            self.stride *= 2
            self.losses = [(step, loss) for step, loss in self.losses if step % self.stride == 0]

    def metrics(self) -> dict[str, float]:
        """`train_loss`, `final_loss`, and `train_accuracy` where comparisons were seen."""
        metrics = {"train_loss": self.loss / max(self.steps, 1), "final_loss": self.last_loss}
        if self.compared:
            metrics["train_accuracy"] = self.right / self.compared
        return metrics


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint."""

    path: Path
    step: int
    tally: Tally


def mark_complete(folder: Path, step: int, tally: Tally) -> None:
    """Declares the checkpoint of a step complete."""
    replace_file(folder / f"checkpoint-{step}" / MARK, json.dumps(asdict(tally)).encode(), durable=True)


def last_complete(folder: Path) -> Checkpoint | None:
    """The newest complete checkpoint, or None."""
    return max(complete_checkpoints(folder), key=lambda checkpoint: checkpoint.step, default=None)


def complete_checkpoints(folder: Path) -> list[Checkpoint]:
    """All complete checkpoints."""
    return [checkpoint for path in _all(folder) if (checkpoint := _read(path)) is not None]


def checkpoint_step(name: str) -> int | None:
    """The step that a checkpoint's folder is named after, or None for another name."""
    match = _NAME.fullmatch(name)
    return int(match.group(1)) if match else None


def drop_incomplete(folder: Path) -> None:
    """Deletes checkpoints that a killed trainer left half written; only the main process may do this."""
    for path in _all(folder):
        if _read(path) is None:
            shutil.rmtree(path)


def _all(folder: Path) -> list[Path]:
    found = folder.glob("checkpoint-*") if folder.is_dir() else []
    return [path for path in found if checkpoint_step(path.name) is not None]


def _read(path: Path) -> Checkpoint | None:
    try:
        data = json.loads((path / MARK).read_bytes())
    except FileNotFoundError:
        return None
    return Checkpoint(path, checkpoint_step(path.name) or 0, Tally(**data))
