"""Jobs as files: one JSON file in each job's folder."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ilf_common.errors import FailedPreconditionError
from services.finetune.models import FinetuneJob
from services.finetune.trainer.outcome import replace_file

log = logging.getLogger("ilf.finetune")

_FILE = "job.json"
_JOB = TypeAdapter(FinetuneJob)


class JobFiles:
    """Keeps jobs in a folder that belongs to one service at a time.

    Args:
        folder: Made if missing.

    Raises:
        FailedPreconditionError: reason STATE_IN_USE; another service works on the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / ".lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise FailedPreconditionError(
                f"Another finetune service works on {folder}. Stop it, or set another state_dir.", reason="STATE_IN_USE"
            ) from error

    async def close(self) -> None:
        """Lets another service have the folder."""
        self._lock.close()

    async def load(self) -> Sequence[FinetuneJob]:
        """All jobs; one whose file cannot be read is left out, and the log names it."""
        found = [_read(path) for path in sorted(self._folder.glob(f"*/{_FILE}"))]
        return [job for job in found if job is not None]

    async def add(self, job: FinetuneJob) -> FinetuneJob:
        """Writes a new job down; answers the first one where there is one with this id."""
        first = await self.read(job.id)
        if first is None:
            await self.save(job)
        return first or job

    async def save(self, job: FinetuneJob) -> None:
        """Writes a job, whole and to the disk."""
        folder = self._folder / job.id
        folder.mkdir(exist_ok=True)
        replace_file(folder / _FILE, _JOB.dump_json(job, indent=1), durable=True)

    async def read(self, job_id: str) -> FinetuneJob | None:
        """A job as it is written now."""
        path = self._folder / job_id / _FILE
        return _read(path) if path.exists() else None

    async def remove(self, job_id: str) -> None:
        """Deletes a job."""
        (self._folder / job_id / _FILE).unlink(missing_ok=True)


def _read(path: Path) -> FinetuneJob | None:
    try:
        return _JOB.validate_json(path.read_bytes())
    except ValidationError:
        log.error("job file not readable", extra={"path": str(path)})
        return None
