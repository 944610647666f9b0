"""Compare: people say which of two outputs is better."""

from __future__ import annotations

from typing import Literal

from ilf_client import AsyncClient
from ilf_client.models.tasks import ComparisonTask, Preference
from ilf_common.errors import InvalidArgumentError
from services.console.pages.desk import AnswerBody, Desk


class PreferenceBody(AnswerBody):
    """The better one, and, if wanted, why."""

    preference: Literal["a", "b", "tie"] | None = None
    reason: str = ""


async def submit(client: AsyncClient, annotator: str, body: PreferenceBody) -> ComparisonTask:
    """Sends a preference, or changes one's own."""
    if body.preference is None:
        raise InvalidArgumentError.of("preference", "Say first which one is better, or that they tie.")
    return await client.comparisons.submit(
        body.task,
        annotator,
        Preference(body.preference),
        reason=body.reason,
        flags=body.flags,
        request_id=body.request_id,
    )


routes = Desk(
    path="/compare",
    template="compare.html",
    kind=ComparisonTask,
    body=PreferenceBody,
    asking=lambda client: client.comparisons,
    progress=lambda progress: progress.comparison,
    submit=submit,
).routes
