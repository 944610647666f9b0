"""Jobs that are to be looked at; each is in the queue once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


class WorkQueue:
    """Ids in the order in which they came. What comes again while it waits stays where it is."""

    def __init__(self) -> None:
        self._waiting: dict[str, None] = {}
        self._filled = asyncio.Event()

    def add(self, job_id: str) -> None:
        """Asks for a look at a job."""
        self._waiting.setdefault(job_id)
        self._filled.set()

    def add_all(self, job_ids: Iterable[str]) -> None:
        """Asks for a look at several jobs, in this order."""
        for job_id in job_ids:
            self.add(job_id)

    async def take(self) -> str:
        """The next id; waits for one."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        job_id = next(iter(self._waiting))
        del self._waiting[job_id]
        return job_id
