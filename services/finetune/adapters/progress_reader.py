"""Reads the progress of running trainers from the store, again and again, a few at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from services.finetune.adapters.work_folders import WorkFolders
from services.finetune.models import FinetuneJob, Progress

log = logging.getLogger("ilf.finetune")

_AT_ONCE = 8


class ProgressReader:
    """The newest known progress of the trainers that run.

    Args:
        folders: Where they write it.
        changed: Called with the id of a job that has made progress.
        pause: Seconds between two rounds.
    """

    def __init__(self, folders: WorkFolders, changed: Callable[[str], None], pause: float) -> None:
        self._folders = folders
        self._changed = changed
        self._pause = pause
        self._known: dict[str, Progress] = {}

    def of(self, job: FinetuneJob) -> Progress:
        """How far the job is; it is read from now on."""
        return self._known.setdefault(job.id, job.progress)

    def leave(self, job_id: str) -> None:
        """Reads the job's progress no more."""
        self._known.pop(job_id, None)

    async def follow(self) -> None:
        """Reads for ever."""
        while True:
            await asyncio.sleep(self._pause)
            places = asyncio.Semaphore(_AT_ONCE)
            await asyncio.gather(*(self._read(job_id, places) for job_id in [*self._known]))

    async def _read(self, job_id: str, places: asyncio.Semaphore) -> None:
        async with places:
            try:
                progress = await asyncio.to_thread(self._folders.progress, job_id)
            except Exception as error:
                # The store is away for a while, or one file is odd: the others are read all the same.
                log.warning("progress not read: %s", type(error).__name__, extra={"job": f"jobs/{job_id}"})
                return
        if progress is not None and job_id in self._known and progress != self._known[job_id]:
            self._known[job_id] = progress
            self._changed(job_id)
