"""Tasks of people in the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from services.orchestrator.adapters.database import SKIPS, TASKS, answering, in_thread
from services.orchestrator.adapters.task_counts import Change, TaskCounts
from services.orchestrator.adapters.task_rows import from_row, is_task, to_row
from services.orchestrator.tasks import Task, TaskKind, TaskState

_LEASE_SCAN = 8
"""Rows read for one lease: the slots of one group are next to each other, and only one of them is wanted."""

ResultT = TypeVar("ResultT")
Writing = Callable[..., tuple[ResultT, list[Change]]]


class SqlTaskStore:
    """Implements `ports.TaskStore`.

    All writes go through one thread: each reads what it changes, and nothing comes between. This process is the only
    writer (see the fence).
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._counts = TaskCounts()
        self._writer = ThreadPoolExecutor(1, "task-writer")

    async def add(self, tasks: Sequence[Task]) -> None:
        """Adds tasks of one shard; those that are there stay what they are."""
        if tasks:
            await self._write(_add, tasks)

    async def get(self, kind: TaskKind, run_id: str, task_id: str) -> Task | None:
        """A task by id."""
        found = await in_thread(self._select, sa.select(TASKS).where(is_task(kind, run_id, task_id)))
        return found[0] if found else None

    async def change(self, kind: TaskKind, run_id: str, task_id: str, change: Callable[[Task], Task]) -> Task | None:
        """Replaces a task by what `change` makes of it; None where there is no such task."""
        return await self._write(_change, kind, run_id, task_id, change)

    async def skip(
        self, kind: TaskKind, run_id: str, task_id: str, annotator: str, change: Callable[[Task], Task]
    ) -> Task | None:
        """As `change`, and never offers the task's group to this annotator again; a repeat changes nothing."""
        return await self._write(_skip, kind, run_id, task_id, annotator, change)

    async def renew(self, kind: TaskKind, run_id: str, annotator: str, *, limit: int, now: datetime) -> list[Task]:
        """The annotator's own leases of a run, or of all runs (""), from now on."""
        return await self._write(_renew, kind, run_id, annotator, limit, now)

    async def lease(self, kind: TaskKind, run_id: str, annotator: str, *, limit: int, now: datetime) -> list[Task]:
        """Open tasks of a run, of groups that the annotator has not seen, now leased."""
        done, total = await self.progress(kind, run_id)
        return await self._write(_lease, kind, run_id, annotator, limit, now) if done < total else []

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
            await self._write(_nothing)
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
        await self._write(_close, run_id, iteration)

    async def asked_shards(self, kind: TaskKind, run_id: str, iteration: int) -> set[int]:
        """Shards that have tasks of a kind."""
        condition = (TASKS.c.kind == kind) & (TASKS.c.run_id == run_id) & (TASKS.c.iteration == iteration)
        return {
            int(row[0]) for row in await in_thread(self._rows, sa.select(TASKS.c.shard).where(condition).distinct())
        }

    async def _write(self, writing: Writing[ResultT], *arguments: object) -> ResultT:
        with answering():
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._writer, self._in_transaction, writing, *arguments)

    def _in_transaction(self, writing: Writing[ResultT], *arguments: object) -> ResultT:
        try:
            with self._engine.begin() as connection:
                if not self._counts.known:
                    self._counts.load(connection)
                result, changes = writing(connection, *arguments)
        except sa.exc.SQLAlchemyError:
            self._counts.forget()
            raise
        self._counts.note(changes)
        return result

    def _select(self, query: Any) -> list[Task]:
        return [from_row(row) for row in self._rows(query)]

    def _rows(self, query: Any) -> Sequence[Any]:
        with self._engine.connect() as connection:
            return connection.execute(query).all()


def _nothing(_: sa.Connection) -> tuple[None, list[Change]]:
    return None, []


def _add(connection: sa.Connection, tasks: Sequence[Task]) -> tuple[None, list[Change]]:
    first = tasks[0]
    same = (
        (TASKS.c.kind == first.kind)
        & (TASKS.c.run_id == first.run_id)
        & (TASKS.c.iteration == first.iteration)
        & (TASKS.c.shard == first.shard)
    )
    there = set(connection.execute(sa.select(TASKS.c.id).where(same)).scalars())
    new = [task for task in tasks if task.id not in there]
    if new:
        connection.execute(TASKS.insert(), [to_row(task) for task in new])
    return None, [(None, task) for task in new]


def _change(
    connection: sa.Connection, kind: TaskKind, run_id: str, task_id: str, change: Callable[[Task], Task]
) -> tuple[Task | None, list[Change]]:
    row = connection.execute(sa.select(TASKS).where(is_task(kind, run_id, task_id))).first()
    if row is None:
        return None, []
    before = from_row(row)
    after = change(before)
    return after, _save(connection, before, after)


def _skip(
    connection: sa.Connection,
    kind: TaskKind,
    run_id: str,
    task_id: str,
    annotator: str,
    change: Callable[[Task], Task],
) -> tuple[Task | None, list[Change]]:
    def give_back(task: Task) -> Task:
        skip = {"kind": kind.value, "run_id": run_id, "task_group": task.group, "annotator": annotator}
        same = sa.and_(*(SKIPS.c[name] == value for name, value in skip.items()))
        skipped = connection.execute(sa.select(SKIPS.c.kind).where(same)).first() is not None
        if skipped and task.annotator != annotator:
            return task
        given_back = change(task)
        if not skipped:
            connection.execute(SKIPS.insert().values(skip))
        return given_back

    return _change(connection, kind, run_id, task_id, give_back)


def _renew(
    connection: sa.Connection, kind: TaskKind, run_id: str, annotator: str, limit: int, now: datetime
) -> tuple[list[Task], list[Change]]:
    query = sa.select(TASKS).where(
        TASKS.c.annotator == annotator,
        TASKS.c.kind == kind,
        TASKS.c.state == TaskState.LEASED,
        TASKS.c.closed.is_(False),
    )
    if run_id:
        query = query.where(TASKS.c.run_id == run_id)
    rows = connection.execute(query.order_by(TASKS.c.run_id, TASKS.c.id).limit(limit)).all()
    return _hand_out(connection, [from_row(row) for row in rows], annotator, now)


def _lease(
    connection: sa.Connection, kind: TaskKind, run_id: str, annotator: str, limit: int, now: datetime
) -> tuple[list[Task], list[Change]]:
    # One condition a query, so that the index answers each in order.
    expired = (TASKS.c.state == TaskState.LEASED) & (TASKS.c.lease_expires <= now.timestamp())
    groups: dict[str, Task] = {}
    for free in (expired, TASKS.c.state == TaskState.OPEN):
        if len(groups) < limit:
            query = _unseen(kind, run_id, annotator).where(free).order_by(TASKS.c.id).limit(limit * _LEASE_SCAN)
            for row in connection.execute(query):
                groups.setdefault(row.task_group, from_row(row))
    return _hand_out(connection, list(groups.values())[:limit], annotator, now)


def _unseen(kind: TaskKind, run_id: str, annotator: str) -> sa.Select[Any]:
    """Tasks of groups in which the annotator has neither a task nor a skip."""
    other = TASKS.alias("other")
    seen = (
        (other.c.annotator == annotator)
        & (other.c.kind == kind)
        & (other.c.run_id == run_id)
        & (other.c.task_group == TASKS.c.task_group)
    )
    skipped = (
        (SKIPS.c.kind == kind)
        & (SKIPS.c.run_id == run_id)
        & (SKIPS.c.task_group == TASKS.c.task_group)
        & (SKIPS.c.annotator == annotator)
    )
    return (
        sa.select(TASKS)
        .where(TASKS.c.kind == kind, TASKS.c.closed.is_(False), TASKS.c.run_id == run_id)
        .where(~sa.exists().where(seen), ~sa.exists().where(skipped))
    )


def _hand_out(
    connection: sa.Connection, tasks: Sequence[Task], annotator: str, now: datetime
) -> tuple[list[Task], list[Change]]:
    leased = [task.leased_to(annotator, now) for task in tasks]
    changes = [change for pair in zip(tasks, leased, strict=True) for change in _save(connection, *pair)]
    return leased, changes


def _save(connection: sa.Connection, before: Task, after: Task) -> list[Change]:
    if after == before:
        return []
    condition = is_task(after.kind, after.run_id, after.id)
    connection.execute(TASKS.update().where(condition).values(to_row(after)))
    return [(before, after)]


def _close(connection: sa.Connection, run_id: str, iteration: int) -> tuple[None, list[Change]]:
    condition = (TASKS.c.kind == TaskKind.FEEDBACK) & (TASKS.c.run_id == run_id) & (TASKS.c.iteration == iteration)
    connection.execute(TASKS.update().where(condition).values(closed=True))
    return None, []


def _answers_of(annotator: str, run_id: str) -> list[Any]:
    conditions = [TASKS.c.annotator == annotator, TASKS.c.state == TaskState.DONE]
    return [*conditions, TASKS.c.run_id == run_id] if run_id else conditions
