"""People's tasks as protos."""

from __future__ import annotations

from typing import Any

from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.models import RunSpec
from services.orchestrator.tasks import Task, TaskKind


def feedback_task_to_proto(task: Task, spec: RunSpec | None) -> pb.FeedbackTask:
    """A question for feedback; without a spec nothing is said of the run's guidelines."""
    message = pb.FeedbackTask(initial_output=task.text_a, feedback=task.answer.text, closed=task.closed)
    if spec is not None:
        message.nothing_to_change = next(iter(spec.feedback.nothing_to_change), "")
    _fill(message, task, spec)
    return message


def comparison_task_to_proto(task: Task, spec: RunSpec | None) -> pb.ComparisonTask:
    """A question which of two samples is better."""
    message = pb.ComparisonTask(
        output_a=task.text_a,
        output_b=task.text_b,
        preference=pb.Preference.Value(task.answer.text or "PREFERENCE_UNSPECIFIED"),
        reason=task.answer.reason,
        candidate_a=task.candidate_a,
        candidate_b=task.candidate_b,
    )
    _fill(message, task, spec)
    return message


def review_task_to_proto(task: Task, spec: RunSpec | None) -> pb.ReviewTask:
    """A question whether a refinement incorporates the feedback."""
    message = pb.ReviewTask(
        initial_output=task.text_a,
        feedback=task.feedback,
        refinement=task.text_b,
        verdict=pb.Verdict.Value(task.answer.text or "VERDICT_UNSPECIFIED"),
        candidate=task.candidate_b,
    )
    _fill(message, task, spec)
    return message


def answer_to_proto(task: Task, spec: RunSpec) -> pb.Answer:
    """A task of whatever kind with its answer."""
    match task.kind:
        case TaskKind.FEEDBACK:
            return pb.Answer(feedback=feedback_task_to_proto(task, spec))
        case TaskKind.COMPARISON:
            return pb.Answer(comparison=comparison_task_to_proto(task, spec))
        case TaskKind.REVIEW:
            return pb.Answer(review=review_task_to_proto(task, spec))


def name_of(enum: Any, number: int) -> str:
    """The name of an enum's value, empty where it says nothing or is none that this server knows."""
    return str(enum.Name(number)) if number and number in enum.values() else ""


def _fill(message: Any, task: Task, spec: RunSpec | None) -> None:
    """What the messages of all kinds have."""
    message.name, message.item_id, message.context = task.name, task.item_id, task.context
    message.annotator, message.iteration = task.annotator, task.iteration
    message.state = pb.TaskState.Value(task.state.value)
    message.flags.extend(task.answer.flags)
    message.guidelines = spec.people.guidelines if spec else ""
    if task.lease_expire_time is not None:
        message.lease_expire_time.FromDatetime(task.lease_expire_time)
    if task.answer_time is not None:
        message.answer_time.FromDatetime(task.answer_time)
