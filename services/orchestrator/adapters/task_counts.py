"""How many tasks there are and are done, kept in memory: counting all rows at each answer takes too long."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable

import sqlalchemy as sa

from services.orchestrator.adapters.database import TASKS
from services.orchestrator.tasks import Task, TaskState

Change = tuple[Task | None, Task]
"""A task before and after it was written; None before it was there."""
_Key = tuple[str, str, int]


class TaskCounts:
    """Counts by kind, run and iteration. True as long as one process writes (see the fence)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[_Key, list[int]] | None = None

    @property
    def known(self) -> bool:
        """Whether the rows have been counted."""
        return self._counts is not None

    def load(self, connection: sa.Connection) -> None:
        """Counts the rows."""
        done = sa.func.sum(sa.case((TASKS.c.state == TaskState.DONE, 1), else_=0))
        key = (TASKS.c.kind, TASKS.c.run_id, TASKS.c.iteration)
        counts: dict[_Key, list[int]] = defaultdict(lambda: [0, 0])
        for *names, finished, total in connection.execute(sa.select(*key, done, sa.func.count()).group_by(*key)):
            counts[(names[0], names[1], names[2])] = [int(finished), int(total)]
        with self._lock:
            self._counts = counts

    def forget(self) -> None:
        """Has the rows counted again: a write failed, and nobody knows how far it came."""
        with self._lock:
            self._counts = None

    def note(self, changes: Iterable[Change]) -> None:
        """Tasks were written."""
        with self._lock:
            for before, after in changes:
                if self._counts is not None:
                    count = self._counts[(after.kind.value, after.run_id, after.iteration)]
                    count[0] += (after.state is TaskState.DONE) - (
                        before is not None and before.state is TaskState.DONE
                    )
                    count[1] += before is None

    def of(self, kind: str, run_id: str, iteration: int | None = None) -> tuple[int, int]:
        """Done and all, of a run or of all runs (""), and of one iteration or all."""
        done = total = 0
        with self._lock:
            for (of_kind, of_run, of_iteration), count in (self._counts or {}).items():
                if of_kind == kind and run_id in ("", of_run) and iteration in (None, of_iteration):
                    done, total = done + count[0], total + count[1]
        return done, total
