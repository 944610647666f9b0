"""Review: people say whether a refinement incorporates the feedback."""

from __future__ import annotations

from typing import Any, Literal

from ilf_client import AsyncClient
from ilf_client.models.tasks import ReviewTask, Verdict
from ilf_common.errors import InvalidArgumentError
from services.console.pages.desk import AnswerBody, Desk
from services.console.views.diff import word_diff


class VerdictBody(AnswerBody):
    """Whether the feedback is in the refinement."""

    verdict: Literal["yes", "partly", "no"] | None = None


async def submit(client: AsyncClient, annotator: str, body: VerdictBody) -> ReviewTask:
    """Sends a verdict, or changes one's own."""
    if body.verdict is None:
        raise InvalidArgumentError.of("verdict", "Say first whether the feedback is in it: yes, partly or no.")
    return await client.reviews.submit(
        body.task, annotator, Verdict(body.verdict), flags=body.flags, request_id=body.request_id
    )


def changes(task: ReviewTask) -> dict[str, Any]:
    """What the refinement changes, word by word."""
    return {"pieces": word_diff(task.initial_output, task.refinement)}


routes = Desk(
    path="/review",
    template="review.html",
    kind=ReviewTask,
    body=VerdictBody,
    asking=lambda client: client.reviews,
    progress=lambda progress: progress.review,
    submit=submit,
    details=changes,
).routes
