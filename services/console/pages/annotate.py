"""Annotate: people say in their own words what is wrong with an output."""

from __future__ import annotations

from ilf_client import AsyncClient
from ilf_client.models.tasks import FeedbackTask
from services.console.pages.desk import AnswerBody, Desk


class FeedbackBody(AnswerBody):
    """Feedback in plain words."""

    feedback: str = ""


async def submit(client: AsyncClient, annotator: str, body: FeedbackBody) -> FeedbackTask:
    """Sends feedback, or changes one's own."""
    return await client.feedback.submit(
        body.task, annotator, body.feedback, flags=body.flags, request_id=body.request_id
    )


routes = Desk(
    path="/annotate",
    template="annotate.html",
    kind=FeedbackTask,
    body=FeedbackBody,
    asking=lambda client: client.feedback,
    progress=lambda progress: progress.feedback,
    submit=submit,
).routes
