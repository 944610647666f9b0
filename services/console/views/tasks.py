"""What the desk of an annotator shows of tasks and answers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar

from ilf_client.models.tasks import AnnotationProgress, ComparisonTask, FeedbackTask, Preference, ReviewTask

Task = FeedbackTask | ComparisonTask | ReviewTask
TaskT = TypeVar("TaskT", FeedbackTask, ComparisonTask, ReviewTask)

FLAG_LABELS = {"unclear": "Unclear", "harmful": "Harmful", "wrong_language": "Wrong language", "other": "Other"}
_PREFERENCES = {Preference.A: "A is better", Preference.B: "B is better", Preference.TIE: "Tie"}
_SUMMARY = 90


def run_of(task_name: str) -> str:
    """The run that a task belongs to, as `runs/<id>`; empty for what is no name of a task."""
    parts = task_name.split("/")
    return "/".join(parts[:2]) if len(parts) == 4 and parts[0] == "runs" else ""


def find(answers: Sequence[Task], name: str, kind: type[TaskT]) -> TaskT | None:
    """One's own answered task of this name."""
    return next((task for task in answers if isinstance(task, kind) and task.name == name), None)


def of_kind(answers: Sequence[Task], kind: type[TaskT]) -> list[TaskT]:
    """The answers of one kind."""
    return [task for task in answers if isinstance(task, kind)]


def previous(answers: Sequence[Task], task: Task | None) -> str:
    """The name of the answer that was given before this task's; empty where there is none."""
    names = [answer.name for answer in answers]
    older = names[names.index(task.name) + 1 :] if task is not None and task.name in names else names
    return older[0] if older else ""


def summary(task: Task) -> str:
    """An answer in one line."""
    if isinstance(task, ComparisonTask):
        return _PREFERENCES.get(task.preference, "")
    if isinstance(task, ReviewTask):
        return task.verdict.value.capitalize()
    line = " ".join(task.feedback.split())
    return line if len(line) <= _SUMMARY else line[: _SUMMARY - 1] + "…"


def lease_seconds(task: Task | None) -> int:
    """Seconds that the task stays with its annotator; 0 where it is not leased."""
    if task is None or task.lease_expire_time is None:
        return 0
    return max(0, int((task.lease_expire_time - datetime.now(UTC)).total_seconds()))


def pace(progress: AnnotationProgress) -> str:
    """How many answers the annotator gave, in words."""
    if progress.answered == 0:
        return "Your first one"
    return f"{progress.answered_last_hour:,} in the last hour, {progress.answered_last_day:,} in the last day"
