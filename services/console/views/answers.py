"""What people answered, as rows of a file."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import fields
from datetime import datetime
from enum import Enum
from typing import Any

from ilf_client.answer_files import cell
from ilf_client.models.tasks import ComparisonTask, FeedbackTask, ReviewTask, TaskState
from services.console.views.tasks import Task

KINDS: dict[str, type[Task]] = {"feedback": FeedbackTask, "comparisons": ComparisonTask, "reviews": ReviewTask}
_RELIABLE, _TENTATIVE = 0.8, 0.667
_NOT_ANSWERS = {"lease_expire_time", "state", "guidelines", "nothing_to_change", "closed"}


def strength(alpha: float) -> tuple[str, str]:
    """What an alpha is worth, by the bounds that Krippendorff gives, and the kind of its badge."""
    if alpha >= _RELIABLE:
        return "reliable", "good"
    return ("tentative", "warn") if alpha >= _TENTATIVE else ("too low to rely on", "bad")


def columns(kind: type[Task]) -> list[str]:
    """The columns of one kind of answers."""
    return [field.name for field in fields(kind) if field.name not in _NOT_ANSWERS]


def row(task: Task) -> dict[str, Any] | None:
    """An answer as plain values; None for a task without one."""
    if task.state is not TaskState.DONE:
        return None
    return {name: _plain(getattr(task, name)) for name in columns(type(task))}


def json_line(values: dict[str, Any]) -> str:
    """A row as a line of JSON, exactly as it was written."""
    return json.dumps(values, ensure_ascii=False) + "\n"


def csv_line(values: list[Any]) -> str:
    """A row as a line of CSV; an apostrophe before what a spreadsheet would take for a formula makes it a text."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow([_cell(value) for value in values])
    return line.getvalue()


def _cell(value: Any) -> str:
    text = " ".join(value) if isinstance(value, list) else str(value)
    return cell(text)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    return list(value) if isinstance(value, tuple | list) else value
