"""Jobs that are to be looked at; each is in the queue once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


class WorkQueue:
    """Ids in the order in which they came, those of jobs that have changed before those that are merely due."""

    def __init__(self) -> None:
        self._changed: dict[str, None] = {}
        self._due: dict[str, None] = {}
        self._filled = asyncio.Event()

    def add_changed(self, job_id: str) -> None:
        """Asks for a look at a job that has changed: somebody watches it."""
        self._due.pop(job_id, None)
        self._changed.setdefault(job_id)
        self._filled.set()

    def add_due(self, job_ids: Iterable[str]) -> None:
        """Asks for a look at jobs, in this order; what waits already stays where it is."""
        for job_id in job_ids:
            if job_id not in self._changed:
                self._due.setdefault(job_id)
                self._filled.set()

    async def take(self) -> str:
        """The next id; waits for one."""
        while not (self._changed or self._due):
            await self._wait()
        return _first(self._changed or self._due)

    async def take_changed(self) -> str:
        """The next id of a job that has changed; waits for one."""
        while not self._changed:
            await self._wait()
        return _first(self._changed)

    async def _wait(self) -> None:
        self._filled.clear()
        await self._filled.wait()


def _first(waiting: dict[str, None]) -> str:
    job_id = next(iter(waiting))
    del waiting[job_id]
    return job_id
