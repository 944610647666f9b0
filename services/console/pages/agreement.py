"""Agreement: how far people are with their answers, how far they agree, and files of what they said."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ilf_client.models.tasks import AnnotationAgreement
from ilf_common.errors import require
from services.console import audit
from services.console.identity import Role, needs
from services.console.pages.reading import newest_runs
from services.console.rendering import page
from services.console.views import answers as views
from services.console.views import commands
from services.console.views.tasks import Task

_NOT_IN_NAMES = re.compile(r"[^0-9A-Za-z.-]")
_TYPES = {"jsonl": "application/x-ndjson", "csv": "text/csv"}


@needs(Role.ENGINEER)
async def show(request: Request) -> Response:
    """How far people are with a run, or with all, and how far they agree about one."""
    run, client = commands.bare(request.query_params.get("run", "")), request.app.state.client
    progress, names = await asyncio.gather(client.answers.progress(run=run or "-"), newest_runs(request))
    agreement: AnnotationAgreement | None = await client.answers.agreement(run=run) if run else None
    kinds = [
        ("feedback", "Feedback", "/annotate", progress.feedback),
        ("comparisons", "Comparisons", "/compare", progress.comparison),
        ("reviews", "Reviews", "/review", progress.review),
    ]
    return page(
        request,
        "agreement.html",
        run=run,
        runs=names if run in names or not run else [run, *names],
        kinds=kinds,
        agreements=[("Comparisons", agreement.comparison), ("Reviews", agreement.review)] if agreement else [],
        strength=views.strength,
        command=commands.of("feedback", "agreement", *([run] if run else [])),
    )


@needs(Role.ENGINEER)
async def download(request: Request) -> Response:
    """The answers of one kind as a file, one row each, in the order of their tasks."""
    query = request.query_params
    run, kind, form = query.get("run") or "-", query.get("kind", "feedback"), query.get("form", "jsonl")
    require(kind in views.KINDS, "kind", f"must be one of {', '.join(views.KINDS)}")
    require(form in _TYPES, "form", f"must be one of {', '.join(_TYPES)}")
    asked: AsyncIterator[Task] = getattr(request.app.state.client, kind).show(run=run)
    rows = _rows(asked)
    # Before the answer begins: whatever is wrong is still a page of its own.
    first = await anext(rows, None)
    audit.record(request, "download", run, kind=kind)
    name = _NOT_IN_NAMES.sub("-", f"{'all' if run == '-' else commands.bare(run)}-{kind}.{form}")
    return StreamingResponse(
        _lines(form, views.columns(views.KINDS[kind]), first, rows),
        media_type=_TYPES[form],
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


async def _rows(tasks: AsyncIterator[Task]) -> AsyncIterator[dict[str, Any]]:
    async for task in tasks:
        if (row := views.row(task)) is not None:
            yield row


async def _lines(
    form: str, columns: list[str], first: dict[str, Any] | None, rows: AsyncIterator[dict[str, Any]]
) -> AsyncIterator[str]:
    if form == "csv":
        yield views.csv_line(columns)
    if first is not None:
        yield _line(form, first)
    async for row in rows:
        yield _line(form, row)


def _line(form: str, row: dict[str, Any]) -> str:
    return views.json_line(row) if form == "jsonl" else views.csv_line(list(row.values()))


routes = [Route("/agreement", show), Route("/agreement/answers", download)]
