"""What trainers in pods write into the artifact store: progress and results."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ilf_common.artifacts import ArtifactStore
from ilf_common.errors import NotFoundError
from services.finetune.models import Progress
from services.finetune.trainer.outcome import PROGRESS_FILE, RESULT_FILE, TrainerResult

FOLDER = "finetune"
_PROGRESS = TypeAdapter(Progress)
_RESULT = TypeAdapter(TrainerResult)


class WorkFolders:
    """The work folders of all jobs, `finetune/<job>` in the store.

    Args:
        store: The artifact store.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def place(self, job_id: str) -> tuple[str, str]:
        """A trainer's work directory, and the key that it is copied to where pods cannot share a directory."""
        key = f"{FOLDER}/{job_id}"
        try:
            return str(self._store.local_path(key)), ""
        except ValueError:
            return str(Path("/tmp/ilf-work") / job_id), key

    def progress(self, job_id: str) -> Progress | None:
        """How far the trainer is; None while it has not said."""
        try:
            return _PROGRESS.validate_json(self._store.read_bytes(f"{FOLDER}/{job_id}/{PROGRESS_FILE}"))
        except (NotFoundError, ValidationError):
            return None

    def result(self, job_id: str) -> TrainerResult | None:
        """How the trainer ended; None where it has not said."""
        try:
            return _RESULT.validate_json(self._store.read_bytes(f"{FOLDER}/{job_id}/{RESULT_FILE}"))
        except (NotFoundError, ValidationError):
            return None

    def delete(self, job_id: str) -> None:
        """Deletes what is left of a job's work."""
        self._store.delete(f"{FOLDER}/{job_id}")
