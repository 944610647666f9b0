"""What people have answered for a run, as rows of a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ilf_client.models.runs import Run
from ilf_client.models.tasks import ComparisonTask, FeedbackTask, Preference, ReviewTask, TaskState
from ilf_common.templates import PromptTemplate

if TYPE_CHECKING:
    from ilf_client.sync import Client

_WHO = ("iteration", "annotator", "flags")
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "feedback": ("item_id", "context", "initial_output", "feedback", *_WHO),
    "open": ("item_id", "iteration", "context", "initial_output", "guidelines", "annotator", "feedback"),
    "comparisons": ("prompt", "chosen", "rejected", "item_id", "reason", *_WHO),
    "reviews": ("context", "initial_output", "feedback", "refinement", "incorporated", "item_id", *_WHO),
}

Row = dict[str, Any]


def answer_rows(client: Client, run: Run, kind: str, prompt: PromptTemplate) -> Iterator[Row]:
    """One row an answer.

    Args:
        client: Where the tasks are.
        run: The run.
        kind: `feedback`; `open`, the feedback tasks without an answer, to be filled in; `comparisons`, as preferences
            with the columns of TRL, without ties; or `reviews`, whose column `incorporated` is yes, partly or no.
        prompt: How a context becomes the prompt of a comparison.
    """
    match kind:
        case "feedback":
            yield from (_feedback(task) for task in client.feedback.show(run=run.name) if _is_done(task))
        case "open":
            yield from (open_task(task) for task in client.feedback.show(run=run.name) if is_open(task))
        case "comparisons":
            for pair in client.comparisons.show(run=run.name):
                if _is_done(pair) and pair.preference is not Preference.TIE:
                    yield _comparison(pair, prompt)
        case _:
            yield from (_review(task) for task in client.reviews.show(run=run.name) if _is_done(task))


def is_open(task: FeedbackTask) -> bool:
    """Whether somebody may still answer it."""
    return task.state is not TaskState.DONE and not task.closed


def open_task(task: FeedbackTask) -> Row:
    """The task with empty fields for who answers and what; `answer_files` reads it when they are filled in."""
    values = {name: getattr(task, name) for name in COLUMNS["open"]}
    return {**values, "annotator": "", "feedback": ""}


def _is_done(task: FeedbackTask | ComparisonTask | ReviewTask) -> bool:
    return task.state is TaskState.DONE


def _feedback(task: FeedbackTask) -> Row:
    texts = {"context": task.context, "initial_output": task.initial_output, "feedback": task.feedback}
    return {"item_id": task.item_id, **texts, **_who(task)}


def _comparison(task: ComparisonTask, prompt: PromptTemplate) -> Row:
    outputs = (task.output_a, task.output_b)
    chosen, rejected = outputs if task.preference is Preference.A else outputs[::-1]
    return {
        "prompt": prompt.render(context=task.context),
        "chosen": prompt.target_prefix + chosen,
        "rejected": prompt.target_prefix + rejected,
        "item_id": task.item_id,
        "reason": task.reason,
        **_who(task),
    }


def _review(task: ReviewTask) -> Row:
    return {
        "context": task.context,
        "initial_output": task.initial_output,
        "feedback": task.feedback,
        "refinement": task.refinement,
        "incorporated": task.verdict.value,
        "item_id": task.item_id,
        **_who(task),
    }


def _who(task: FeedbackTask | ComparisonTask | ReviewTask) -> Row:
    return {"iteration": task.iteration, "annotator": task.annotator, "flags": " ".join(task.flags)}
