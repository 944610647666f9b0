"""A person's task as a row of the database, and back."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from services.orchestrator.adapters.database import TASKS
from services.orchestrator.tasks import Answer, Task, TaskKind, TaskState

MUTABLE = ("state", "annotator", "lease_expires", "answer", "reason", "flags", "answered", "requests")
"""The columns that change once a task is there."""


def is_task(kind: TaskKind, run_id: str, task_id: str) -> Any:
    """The condition that a row is this task's."""
    return (TASKS.c.kind == kind) & (TASKS.c.run_id == run_id) & (TASKS.c.id == task_id)


def to_row(task: Task) -> dict[str, Any]:
    """The columns of a task."""
    values = {item.name: getattr(task, item.name) for item in fields(Task)}
    answer: Answer = values.pop("answer")
    values["answer"], values["reason"], values["flags"] = answer.text, answer.reason, " ".join(answer.flags)
    values["requests"] = " ".join(task.requests)
    values["task_group"] = values.pop("group")
    values["kind"], values["state"] = task.kind.value, task.state.value
    values["lease_expires"] = _seconds(values.pop("lease_expire_time"))
    values["answered"] = _seconds(values.pop("answer_time")) or 0.0
    return values


def from_row(row: Any) -> Task:
    """The task of a row."""
    values = dict(row._mapping)
    flags = tuple(values.pop("flags").split())
    values["answer"] = Answer(values["answer"], values.pop("reason"), flags)
    values["requests"] = tuple(values["requests"].split())
    values["group"] = values.pop("task_group")
    values["kind"], values["state"] = TaskKind(values["kind"]), TaskState(values["state"])
    values["lease_expire_time"] = _time(values.pop("lease_expires"))
    values["answer_time"] = _time(values.pop("answered") or None)
    return Task(**values)


def _seconds(time: datetime | None) -> float | None:
    return time.timestamp() if time else None


def _time(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None
