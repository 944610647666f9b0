"""What a trainer says about itself: progress while it runs, a result when it ends, an exit code.

The files are the contract between a trainer and whoever started it; both sides survive the other's death.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from services.finetune.models import Progress

PROGRESS_FILE = "progress.json"
RESULT_FILE = "result.json"

EXIT_FAILED = 10
"""The job failed for the reason in the result file; starting it again would not help."""
EXIT_INTERRUPTED = 75
"""Asked to stop: a checkpoint was written, and a new start continues from it."""
EXIT_PEER_LOST = 76
"""Another process of the group is gone; a new start continues from the last checkpoint."""


class FailureReason(Enum):
    """Why a job failed, as the RPC's error says it."""

    BAD_DATA = "BAD_DATA"
    BAD_CONFIG = "BAD_CONFIG"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    NAN_LOSS = "NAN_LOSS"
    LOAD_TEST_FAILED = "LOAD_TEST_FAILED"
    TRAINER_CRASHED = "TRAINER_CRASHED"


class TrainerError(Exception):
    """Ends a trainer with a reason.

    Args:
        reason: For programs.
        message: For people; names rows and fields, never texts.
    """

    def __init__(self, reason: FailureReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class TrainerResult:
    """How a trainer ended.

    Attributes:
        checkpoint_digest: Digest of the published manifest; empty when it failed.
        reason: Why it failed; None when it succeeded.
        message: For people.
        metrics: Final metrics by name.
    """

    checkpoint_digest: str = ""
    reason: FailureReason | None = None
    message: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)


_RESULT = TypeAdapter(TrainerResult)
_PROGRESS = TypeAdapter(Progress)


def write_result(work_dir: Path, result: TrainerResult) -> None:
    """Writes the result file, whole or not at all, and to the disk."""
    replace_file(work_dir / RESULT_FILE, _RESULT.dump_json(result, indent=1), durable=True)


def read_result(work_dir: Path) -> TrainerResult | None:
    """The result, or None while there is none."""
    try:
        return _RESULT.validate_json((work_dir / RESULT_FILE).read_bytes())
    except FileNotFoundError:
        return None


def write_progress(work_dir: Path, progress: Progress) -> None:
    """Writes the progress file, whole or not at all."""
    replace_file(work_dir / PROGRESS_FILE, _PROGRESS.dump_json(progress), durable=False)


def read_progress(work_dir: Path) -> Progress:
    """The progress; an empty one while there is none or it cannot be read."""
    try:
        return _PROGRESS.validate_json((work_dir / PROGRESS_FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return Progress()


def replace_file(path: Path, data: bytes, *, durable: bool) -> None:
    """Puts a file in place by rename; `durable` also waits for the disk."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("wb") as stream:
        stream.write(data)
        if durable:
            stream.flush()
            os.fsync(stream.fileno())
    aside.replace(path)
