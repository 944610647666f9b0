"""Checkpoints to resume from. One without its mark is half written and does not count."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from services.finetune.trainer.outcome import replace_file

_MARK = "ilf_complete.json"
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
    """

    steps: int = 0
    loss: float = 0.0
    last_loss: float = 0.0
    right: float = 0.0
    compared: float = 0.0

    def add(self, loss: float, right: float, compared: float) -> None:
        """Adds one step."""
        self.steps += 1
        self.loss += loss
        self.last_loss = loss
        self.right += right
        self.compared += compared

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
    replace_file(folder / f"checkpoint-{step}" / _MARK, json.dumps(asdict(tally)).encode(), durable=True)


def last_complete(folder: Path) -> Checkpoint | None:
    """The newest complete checkpoint, or None."""
    found = [checkpoint for path in _all(folder) if (checkpoint := _read(path)) is not None]
    return max(found, key=lambda checkpoint: checkpoint.step, default=None)


def drop_incomplete(folder: Path) -> None:
    """Deletes checkpoints that a killed trainer left half written; only the main process may do this."""
    for path in _all(folder):
        if _read(path) is None:
            shutil.rmtree(path)


def _all(folder: Path) -> list[Path]:
    return [path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name)] if folder.is_dir() else []


def _read(path: Path) -> Checkpoint | None:
    match = _NAME.fullmatch(path.name)
    try:
        data = json.loads((path / _MARK).read_bytes())
    except FileNotFoundError:
        return None
    return Checkpoint(path, int(match.group(1)) if match else 0, Tally(**data))
