"""What is written of tasks, within a transaction of the writer. Statements are built once: building costs most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from services.orchestrator.adapters.database import SKIPS, TASKS
from services.orchestrator.adapters.task_counts import Change
from services.orchestrator.adapters.task_rows import MUTABLE, from_row, to_row
from services.orchestrator.tasks import Task, TaskKind, TaskState

_LEASE_SCAN = 8
"""Rows read for one lease: the slots of one group are next to each other, and only one of them is wanted."""

_KIND: sa.BindParameter[str] = sa.bindparam("of_kind")
_RUN: sa.BindParameter[str] = sa.bindparam("of_run")
_ID: sa.BindParameter[str] = sa.bindparam("of_id")
_GROUP: sa.BindParameter[str] = sa.bindparam("of_group")
_ANNOTATOR: sa.BindParameter[str] = sa.bindparam("of_annotator")
_AFTER: sa.BindParameter[str] = sa.bindparam("after")
_LIMIT, _NOW = sa.bindparam("most", type_=sa.Integer), sa.bindparam("now", type_=sa.Float)

_IS_TASK = (TASKS.c.kind == _KIND) & (TASKS.c.run_id == _RUN) & (TASKS.c.id == _ID)
_GET = sa.select(TASKS).where(_IS_TASK)
_UPDATE = TASKS.update().where(_IS_TASK).values({name: sa.bindparam(name) for name in MUTABLE})
_SKIPPED = sa.select(SKIPS.c.kind).where(
    SKIPS.c.kind == _KIND, SKIPS.c.run_id == _RUN, SKIPS.c.task_group == _GROUP, SKIPS.c.annotator == _ANNOTATOR
)
_SKIP = SKIPS.insert()
_OWN = (
    sa.select(TASKS)
    .where(TASKS.c.annotator == _ANNOTATOR, TASKS.c.kind == _KIND, TASKS.c.state == TaskState.LEASED.value)
    .where(TASKS.c.closed.is_(False))
    .order_by(TASKS.c.run_id, TASKS.c.id)
    .limit(_LIMIT)
)
_OWN_OF_RUN = _OWN.where(TASKS.c.run_id == _RUN)


def _free(condition: Any) -> sa.Select[Any]:
    """Tasks of a run in whose groups the annotator has neither a task nor a skip."""
    other = TASKS.alias("other")
    seen = (
        (other.c.annotator == _ANNOTATOR)
        & (other.c.kind == _KIND)
        & (other.c.run_id == _RUN)
        & (other.c.task_group == TASKS.c.task_group)
    )
    skipped = (
        (SKIPS.c.kind == _KIND)
        & (SKIPS.c.run_id == _RUN)
        & (SKIPS.c.task_group == TASKS.c.task_group)
        & (SKIPS.c.annotator == _ANNOTATOR)
    )
    return (
        sa.select(TASKS)
        .where(TASKS.c.kind == _KIND, TASKS.c.closed.is_(False), TASKS.c.run_id == _RUN, condition)
        .where(~sa.exists().where(seen), ~sa.exists().where(skipped))
        .order_by(TASKS.c.id)
        .limit(_LIMIT)
    )


# One condition each, so that the index answers both in order.
_EXPIRED = _free((TASKS.c.state == TaskState.LEASED.value) & (TASKS.c.lease_expires <= _NOW))
_OPEN = _free((TASKS.c.state == TaskState.OPEN.value) & (TASKS.c.id > _AFTER))
_LAST_GROUP = sa.select(sa.func.max(TASKS.c.task_group)).where(
    TASKS.c.annotator == _ANNOTATOR, TASKS.c.kind == _KIND, TASKS.c.run_id == _RUN
)


def nothing(_: sa.Connection) -> tuple[None, list[Change]]:
    """Writes nothing, but is a transaction."""
    return None, []


def add(connection: sa.Connection, tasks: Sequence[Task]) -> tuple[None, list[Change]]:
    """Adds tasks of one shard; those that are there stay what they are."""
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


def replace_task(
    connection: sa.Connection, kind: TaskKind, run_id: str, task_id: str, change: Callable[[Task], Task]
) -> tuple[Task | None, list[Change]]:
    """Replaces a task by what `change` makes of it."""
    row = connection.execute(_GET, {"of_kind": kind, "of_run": run_id, "of_id": task_id}).first()
    if row is None:
        return None, []
    before = from_row(row)
    after = change(before)
    return after, _save(connection, before, after)


def skip(
    connection: sa.Connection,
    kind: TaskKind,
    run_id: str,
    task_id: str,
    annotator: str,
    change: Callable[[Task], Task],
) -> tuple[Task | None, list[Change]]:
    """As `replace_task`, and if that changes it, remembers that the annotator skips the group."""

    def give_back(task: Task) -> Task:
        key = {"of_kind": kind, "of_run": run_id, "of_group": task.group, "of_annotator": annotator}
        skipped = connection.execute(_SKIPPED, key).first() is not None
        if skipped and task.annotator != annotator:
            return task
        given_back = change(task)
        if not skipped and given_back != task:
            values = {"kind": kind.value, "run_id": run_id, "task_group": task.group, "annotator": annotator}
            connection.execute(_SKIP, values)
        return given_back

    return replace_task(connection, kind, run_id, task_id, give_back)


def renew(
    connection: sa.Connection, kind: TaskKind, run_id: str, annotator: str, limit: int, now: datetime
) -> tuple[list[Task], list[Change]]:
    """The annotator's own leases of a run, or of all runs (""), from now on."""
    values = {"of_kind": kind, "of_annotator": annotator, "most": limit}
    rows = connection.execute(_OWN_OF_RUN, {**values, "of_run": run_id}) if run_id else connection.execute(_OWN, values)
    return _hand_out(connection, rows.all(), annotator, now)


def lease(
    connection: sa.Connection, kind: TaskKind, run_id: str, annotator: str, limit: int, now: datetime
) -> tuple[list[Task], list[Change]]:
    """Tasks that nobody holds, of groups that the annotator has not seen, now the annotator's."""
    of = {"of_kind": kind, "of_run": run_id, "of_annotator": annotator}
    groups: dict[str, Any] = {}

    def look(query: sa.Select[Any], **more: object) -> None:
        if len(groups) < limit:
            for row in connection.execute(query, {**of, "most": limit * _LEASE_SCAN, **more}):
                groups.setdefault(row.task_group, row)

    look(_EXPIRED, now=now.timestamp())
    # Who has done a hundred thousand items, each of which waits for a second person, begins where it stopped.
    last = connection.execute(_LAST_GROUP, of).scalar() or ""
    look(_OPEN, after=last)
    if last:
        look(_OPEN, after="")
    return _hand_out(connection, list(groups.values())[:limit], annotator, now)


def close(connection: sa.Connection, run_id: str, iteration: int) -> tuple[None, list[Change]]:
    """Makes the feedback of an iteration final."""
    condition = (TASKS.c.kind == TaskKind.FEEDBACK) & (TASKS.c.run_id == run_id) & (TASKS.c.iteration == iteration)
    connection.execute(TASKS.update().where(condition).values(closed=True))
    return None, []


def _hand_out(
    connection: sa.Connection, rows: Sequence[Any], annotator: str, now: datetime
) -> tuple[list[Task], list[Change]]:
    tasks = [from_row(row) for row in rows]
    leased = [task.leased_to(annotator, now) for task in tasks]
    changes = [change for pair in zip(tasks, leased, strict=True) for change in _save(connection, *pair)]
    return leased, changes


def _save(connection: sa.Connection, before: Task, after: Task) -> list[Change]:
    if after == before:
        return []
    row = to_row(after)
    key = {"of_kind": after.kind, "of_run": after.run_id, "of_id": after.id}
    connection.execute(_UPDATE, {**key, **{name: row[name] for name in MUTABLE}})
    return [(before, after)]
