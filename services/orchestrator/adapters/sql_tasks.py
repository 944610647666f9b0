"""Tasks of people in the database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from services.orchestrator.adapters.database import SKIPS, TASKS, in_thread
from services.orchestrator.tasks import Task, TaskKind, TaskState

_LEASE_SCAN = 8
"""Rows read for one lease: the slots of one group are next to each other, and only one of them is wanted."""


class SqlTaskStore:
    """Implements `ports.TaskStore`."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        # Leasing reads and then writes; this process is the only writer (see the fence).
        self._leasing = asyncio.Lock()

    async def add(self, tasks: Sequence[Task]) -> None:
        """Adds tasks; those that are there stay what they are."""
        if tasks:
            await in_thread(self._add, tasks)

    def _add(self, tasks: Sequence[Task]) -> None:
        first = tasks[0]
        same = (
            (TASKS.c.kind == first.kind)
            & (TASKS.c.run_id == first.run_id)
            & (TASKS.c.iteration == first.iteration)
            & (TASKS.c.shard == first.shard)
        )
        with self._engine.begin() as connection:
            there = set(connection.execute(sa.select(TASKS.c.id).where(same)).scalars())
            values = [_values(task) for task in tasks if task.id not in there]
            if values:
                connection.execute(TASKS.insert(), values)

    async def get(self, kind: TaskKind, run_id: str, task_id: str) -> Task | None:
        """A task by id."""
        condition = (TASKS.c.kind == kind) & (TASKS.c.run_id == run_id) & (TASKS.c.id == task_id)
        found = await in_thread(self._select, sa.select(TASKS).where(condition))
        return found[0] if found else None

    async def save(self, task: Task) -> None:
        """Replaces a task."""
        await in_thread(self._save, [task], None)

    async def skip(self, task: Task, annotator: str) -> None:
        """Saves a task that was given back, and never offers its group to this annotator again."""
        await in_thread(self._save, [task], annotator)

    def _save(self, tasks: Sequence[Task], skipped_by: str | None) -> None:
        with self._engine.begin() as connection:
            for task in tasks:
                connection.execute(TASKS.update().where(_is(task)).values(_values(task)))
                if skipped_by is not None:
                    skip = {
                        "kind": task.kind.value,
                        "run_id": task.run_id,
                        "task_group": task.group,
                        "annotator": skipped_by,
                    }
                    same = sa.and_(*(SKIPS.c[name] == value for name, value in skip.items()))
                    if connection.execute(sa.select(SKIPS.c.kind).where(same)).first() is None:
                        connection.execute(SKIPS.insert().values(skip))

    async def lease(
        self, kind: TaskKind, run_id: str, annotator: str, *, limit: int, now: datetime, expires: datetime
    ) -> list[Task]:
        """The annotator's own leases, then open tasks of groups that the annotator has not seen, now leased."""
        async with self._leasing:
            return await in_thread(self._lease, kind, run_id, annotator, limit, now, expires)

    def _lease(
        self, kind: TaskKind, run_id: str, annotator: str, limit: int, now: datetime, expires: datetime
    ) -> list[Task]:
        scope = (TASKS.c.kind == kind) & TASKS.c.closed.is_(False)
        if run_id:
            scope = scope & (TASKS.c.run_id == run_id)
        mine = (TASKS.c.state == TaskState.LEASED) & (TASKS.c.annotator == annotator)
        order = (TASKS.c.run_id, TASKS.c.id)
        leased = self._select(sa.select(TASKS).where(scope, mine).order_by(*order).limit(limit))
        if len(leased) < limit:
            wanted = self._open_tasks(scope, annotator, now, (limit - len(leased)) * _LEASE_SCAN)
            groups: dict[tuple[str, str], Task] = {}
            for task in wanted:
                groups.setdefault((task.run_id, task.group), task)
            leased.extend(list(groups.values())[: limit - len(leased)])
        leased = [task.leased_to(annotator, expires) for task in leased]
        self._save(leased, None)
        return leased

    def _open_tasks(self, scope: Any, annotator: str, now: datetime, limit: int) -> list[Task]:
        other = TASKS.alias("other")
        same_group = (
            (other.c.kind == TASKS.c.kind)
            & (other.c.run_id == TASKS.c.run_id)
            & (other.c.task_group == TASKS.c.task_group)
            & (other.c.annotator == annotator)
        )
        skipped = (
            (SKIPS.c.kind == TASKS.c.kind)
            & (SKIPS.c.run_id == TASKS.c.run_id)
            & (SKIPS.c.task_group == TASKS.c.task_group)
            & (SKIPS.c.annotator == annotator)
        )
        free = (TASKS.c.state == TaskState.OPEN) | (
            (TASKS.c.state == TaskState.LEASED) & (TASKS.c.lease_expires <= now.timestamp())
        )
        query = (
            sa.select(TASKS)
            .where(scope, free)
            .where(~sa.exists().where(same_group), ~sa.exists().where(skipped))
            .order_by(TASKS.c.run_id, TASKS.c.id)
            .limit(limit)
        )
        return self._select(query)

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
        done = sa.func.coalesce(sa.func.sum(sa.case((TASKS.c.state == TaskState.DONE, 1), else_=0)), 0)
        query = sa.select(done, sa.func.count()).select_from(TASKS).where(TASKS.c.kind == kind)
        if run_id:
            query = query.where(TASKS.c.run_id == run_id)
        if iteration is not None:
            query = query.where(TASKS.c.iteration == iteration)
        found = await in_thread(self._rows, query)
        return int(found[0][0]), int(found[0][1])

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

    async def close(self, run_id: str, iteration: int) -> None:
        """Makes the feedback of an iteration final."""
        condition = (TASKS.c.kind == TaskKind.FEEDBACK) & (TASKS.c.run_id == run_id) & (TASKS.c.iteration == iteration)
        await in_thread(self._execute, TASKS.update().where(condition).values(closed=True))

    async def imported_shards(self, run_id: str, iteration: int) -> set[int]:
        """Shards whose comparison tasks are there."""
        query = (
            sa.select(TASKS.c.shard)
            .where(TASKS.c.kind == TaskKind.COMPARISON, TASKS.c.run_id == run_id, TASKS.c.iteration == iteration)
            .distinct()
        )
        return {int(row[0]) for row in await in_thread(self._rows, query)}

    def _select(self, query: Any) -> list[Task]:
        return [_task(row) for row in self._rows(query)]

    def _rows(self, query: Any) -> Sequence[Any]:
        with self._engine.connect() as connection:
            return connection.execute(query).all()

    def _execute(self, statement: Any) -> None:
        with self._engine.begin() as connection:
            connection.execute(statement)


def _is(task: Task) -> Any:
    return (TASKS.c.kind == task.kind) & (TASKS.c.run_id == task.run_id) & (TASKS.c.id == task.id)


def _values(task: Task) -> dict[str, Any]:
    values = {item.name: getattr(task, item.name) for item in fields(Task)}
    expires = values.pop("lease_expire_time")
    values["task_group"] = values.pop("group")
    values["kind"], values["state"] = task.kind.value, task.state.value
    values["lease_expires"] = expires.timestamp() if expires else None
    return values


def _task(row: Any) -> Task:
    values = dict(row._mapping)
    expires = values.pop("lease_expires")
    values["group"] = values.pop("task_group")
    values["kind"], values["state"] = TaskKind(values["kind"]), TaskState(values["state"])
    values["lease_expire_time"] = datetime.fromtimestamp(expires, UTC) if expires is not None else None
    return Task(**values)
