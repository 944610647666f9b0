"""Files of what people answer: answers are taken out, and so are tasks that people do elsewhere and bring back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ilf_client import Client, Timeouts, answers, argilla
from ilf_client.answer_files import Imported, read_answers, submit_answers
from ilf_client.models.tasks import FeedbackTask
from ilf_common.errors import InvalidArgumentError, require
from services.console import audit
from services.console.files import TYPES, file_of
from services.console.identity import Role, needs
from services.console.pages.reading import ALL_RUNS
from services.console.rendering import flash
from services.console.settings import ServicesSettings
from services.console.views import answers as views
from services.console.views.commands import bare
from services.console.views.tasks import Task


@needs(Role.ENGINEER)
async def download(request: Request) -> Response:
    """The answers of one kind, one row each, in the order of their tasks."""
    run, kind = request.query_params.get("run") or ALL_RUNS, request.query_params.get("kind", "feedback")
    require(kind in views.KINDS, "kind", f"must be one of {', '.join(views.KINDS)}")
    rows = _answered(getattr(request.app.state.client, kind).show(run=run))
    name = f"{'all' if run == ALL_RUNS else bare(run)}-{kind}"
    answer = await file_of(name, _form(request), views.columns(views.KINDS[kind]), rows)
    audit.record(request, "download", run, kind=kind)
    return answer


@needs(Role.ENGINEER)
async def download_open(request: Request) -> Response:
    """The feedback tasks without an answer, with empty fields to be filled in."""
    run = _run(request.query_params.get("run", ""))
    rows = _unanswered(request.app.state.client.feedback.show(run=run))
    answer = await file_of(f"{run}-open", _form(request), answers.COLUMNS["open"], rows)
    audit.record(request, "download", run, kind="open")
    return answer


@needs(Role.ENGINEER)
async def download_records(request: Request) -> Response:
    """All feedback tasks as Argilla's records."""
    run = _run(request.query_params.get("run", ""))
    tasks = [task async for task in request.app.state.client.feedback.show(run=run)]
    audit.record(request, "download", run, kind="argilla")
    content = await asyncio.to_thread(lambda: json.dumps(argilla.records(tasks), ensure_ascii=False, indent=1))
    headers = {"content-disposition": 'attachment; filename="records.json"'}
    return Response(content, media_type="application/json", headers=headers)


@needs(Role.ENGINEER)
async def upload(request: Request) -> Response:
    """Answers the run's open tasks with the feedback in a file, as the people who wrote it."""
    form = await request.form()
    run, file = _run(str(form.get("run", ""))), form.get("file")
    if not isinstance(file, UploadFile) or not file.filename:
        raise InvalidArgumentError.of("file", "Choose a file first: CSV, JSON lines, or Argilla's records.")
    settings, content = request.app.state.settings.services, await file.read()
    done = await asyncio.to_thread(_submit, settings, run, file.filename, content)
    audit.record(request, "import", run, taken=done.taken, left=done.left)
    left = "; the others are of no task that is open" if done.left else ""
    message = f"{done.taken:,} of {done.taken + done.left:,} answers were taken{left}."
    flash(request, message, "good" if done.taken else "bad")
    return RedirectResponse(f"/agreement?run={quote(run)}", status_code=303)


def _submit(settings: ServicesSettings, run: str, name: str, content: bytes) -> Imported:
    given = read_answers(name, content)
    with Client(
        settings.endpoints, security=settings.security, timeouts=Timeouts(call=settings.call_seconds)
    ) as client:
        return submit_answers(client, run, given)


async def _answered(tasks: AsyncIterator[Task]) -> AsyncIterator[dict[str, Any]]:
    async for task in tasks:
        if (row := views.row(task)) is not None:
            yield row


async def _unanswered(tasks: AsyncIterator[FeedbackTask]) -> AsyncIterator[dict[str, Any]]:
    async for task in tasks:
        if answers.is_open(task):
            yield answers.open_task(task)


def _form(request: Request) -> str:
    form = request.query_params.get("form", "jsonl")
    require(form in TYPES, "form", f"must be one of {', '.join(TYPES)}")
    return form


def _run(name: str) -> str:
    require(bool(name), "run", "Choose a run first.")
    return bare(name)


routes = [
    Route("/agreement/answers", download),
    Route("/agreement/open", download_open),
    Route("/agreement/argilla", download_records),
    Route("/agreement/import", upload, methods=["POST"]),
]
