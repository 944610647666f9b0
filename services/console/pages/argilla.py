"""A run's feedback as the file that Argilla exports and imports."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import quote

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ilf_client import Client, Timeouts, argilla
from ilf_common.errors import InvalidArgumentError, require
from services.console import audit
from services.console.identity import Role, needs
from services.console.rendering import flash
from services.console.settings import ServicesSettings
from services.console.views.commands import bare


@needs(Role.ENGINEER)
async def download(request: Request) -> Response:
    """The run's feedback tasks as records, answered or not."""
    run = _run(request.query_params.get("run", ""))
    tasks = [task async for task in request.app.state.client.feedback.show(run=run)]
    audit.record(request, "download", run, kind="argilla")
    content = await asyncio.to_thread(lambda: json.dumps(argilla.records(tasks), ensure_ascii=False, indent=1))
    headers = {"content-disposition": 'attachment; filename="records.json"'}
    return Response(content, media_type="application/json", headers=headers)


@needs(Role.ENGINEER)
async def upload(request: Request) -> Response:
    """Answers the run's open tasks with the responses in a file, as the people who gave them."""
    form = await request.form()
    run, file = _run(str(form.get("run", ""))), form.get("file")
    if not isinstance(file, UploadFile) or not file.filename:
        raise InvalidArgumentError.of("file", "Choose a file first: the JSON that Dataset.records.to_json writes.")
    done = await asyncio.to_thread(_submit, request.app.state.settings.services, run, await file.read())
    audit.record(request, "import", run, taken=done.taken, left=done.left)
    left = "; the others are of no task that is open" if done.left else ""
    message = f"{done.taken:,} of {done.taken + done.left:,} answers were taken{left}."
    flash(request, message, "good" if done.taken else "bad")
    return RedirectResponse(f"/agreement?run={quote(run)}", status_code=303)


def _submit(settings: ServicesSettings, run: str, content: bytes) -> argilla.Imported:
    try:
        records = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError.of("file", "is no JSON; Dataset.records.to_json writes the right one.") from error
    given = argilla.responses(records)
    with Client(
        settings.endpoints, security=settings.security, timeouts=Timeouts(call=settings.call_seconds)
    ) as client:
        return argilla.submit_responses(client, run, given)


def _run(name: str) -> str:
    require(bool(name), "run", "Choose a run first.")
    return bare(name)


routes = [Route("/agreement/argilla", download), Route("/agreement/argilla", upload, methods=["POST"])]
