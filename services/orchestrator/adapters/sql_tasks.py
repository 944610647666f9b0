"""Tasks of people in the database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from services.orchestrator.adapters.database import TASKS, in_thread
from services.orchestrator.adapters.task_counts import TaskCounts
from services.orchestrator.adapters.task_rows import from_row, is_task
from services.orchestrator.adapters.task_writer import TaskWriter
from services.orchestrator.adapters.task_writing import add, close, lease, nothing, renew, replace_task, skip
from services.orchestrator.tasks import Task, TaskKind, TaskState


class SqlTaskStore:
    """Implements `ports.TaskStore`: reads anywhere, writes through one writer."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._counts = TaskCounts()
        self._writer = TaskWriter(engine, self._counts)

    async def add(self, tasks: Sequence[Task]) -> None:
        """Adds tasks of one shard; those that are there stay what they are."""
        if tasks:
            await self._writer.write(add, tasks)

    async def get(self, kind: TaskKind, run_id: str, task_id: str) -> Task | None:
        """A task by id."""
        found = await in_thread(self._select, sa.select(TASKS).where(is_task(kind, run_id, task_id)))
        return found[0] if found else None

    async def change(self, kind: TaskKind, run_id: str, task_id: str, change: Callable[[Task], Task]) -> Task | None:
        """Replaces a task by what `change` makes of it; None where there is no such task."""
        return await self._writer.write(replace_task, kind, run_id, task_id, change)

    async def skip(
        self, kind: TaskKind, run_id: str, task_id: str, annotator: str, change: Callable[[Task], Task]
    ) -> Task | None:
        """As `change`, and if that changes it, never offers the task's group to this annotator again."""
        return await self._writer.write(skip, kind, run_id, task_id, annotator, change)

    async def renew(self, kind: TaskKind, run_id: str, annotator: str, *, limit: int, now: datetime) -> list[Task]:
        """The annotator's own leases of a run, or of all runs (""), from now on."""
        return await self._writer.write(renew, kind, run_id, annotator, limit, now)

    async def lease(self, kind: TaskKind, run_id: str, annotator: str, *, limit: int, now: datetime) -> list[Task]:
        """Open tasks of a run, of groups that the annotator has not seen, now leased."""
        done, total = await self.progress(kind, run_id)
        return await self._writer.write(lease, kind, run_id, annotator, limit, now) if done < total else []

    async def page(self, kind: TaskKind, run_id: str, *, after: str, limit: int) -> list[Task]:
        """Tasks in the order of their names, those after the name `after`."""
        query = sa.select(TASKS).where(TASKS.c.kind == kind)
        if run_id:
            query = query.where(TASKS.c.run_id == run_id)
        if after:
            parts = after.split("/")
            query = query.where(sa.tuple_(TASKS.c.run_id, TASKS.c.id) > sa.tuple_(parts[1], parts[-1]))
        query = query.order_by(TASKS.c.run_id, TASKS.c.id).limit(limit)
        return await in_thread(self._select, query)

    async def progress(self, kind: TaskKind, run_id: str, iteration: int | None = None) -> tuple[int, int]:
        """How many tasks are done, and how many there are."""
        if not self._counts.known:
            await self._writer.write(nothing)
        return self._counts.of(kind, run_id, iteration)

    async def answers(self, run_id: str, iteration: int, shard: int) -> dict[str, list[str]]:
        """Feedback by item id, in the order of the annotators' names."""
        query = (
            sa.select(TASKS.c.item_id, TASKS.c.answer)
            .where(TASKS.c.kind == TaskKind.FEEDBACK, TASKS.c.run_id == run_id, TASKS.c.iteration == iteration)
            .where(TASKS.c.shard == shard, TASKS.c.state == TaskState.DONE)
            .order_by(TASKS.c.annotator, TASKS.c.id)
        )
        found: dict[str, list[str]] = {}
        for item_id, answer in await in_thread(self._rows, query):
            found.setdefault(item_id, []).append(answer)
        return found

    async def answered_by(self, annotator: str, run_id: str, *, before: datetime | None, limit: int) -> list[Task]:
        """The annotator's answers of all kinds, newest first, those from before a time."""
        query = sa.select(TASKS).where(*_answers_of(annotator, run_id))
        if before is not None:
            query = query.where(TASKS.c.answered < before.timestamp())
        return await in_thread(self._select, query.order_by(TASKS.c.answered.desc()).limit(limit))

    async def count_answers(self, annotator: str, run_id: str, *, since: datetime | None) -> int:
        """How many answers of all kinds the annotator has given, ever or since a time."""
        query = sa.select(sa.func.count()).select_from(TASKS).where(*_answers_of(annotator, run_id))
        if since is not None:
            query = query.where(TASKS.c.answered >= since.timestamp())
        return int((await in_thread(self._rows, query))[0][0])

    async def close(self, run_id: str, iteration: int) -> None:
        """Makes the feedback of an iteration final."""
        await self._writer.write(close, run_id, iteration)

    async def asked_shards(self, kind: TaskKind, run_id: str, iteration: int) -> set[int]:
        """Shards that have tasks of a kind."""
        condition = (TASKS.c.kind == kind) & (TASKS.c.run_id == run_id) & (TASKS.c.iteration == iteration)
        return {
            int(row[0]) for row in await in_thread(self._rows, sa.select(TASKS.c.shard).where(condition).distinct())
        }

    def _select(self, query: Any) -> list[Task]:
        return [from_row(row) for row in self._rows(query)]

    def _rows(self, query: Any) -> Sequence[Any]:
        with self._engine.connect() as connection:
            return connection.execute(query).all()


def _answers_of(annotator: str, run_id: str) -> list[Any]:
    conditions = [TASKS.c.annotator == annotator, TASKS.c.state == TaskState.DONE]
    return [*conditions, TASKS.c.run_id == run_id] if run_id else conditions
