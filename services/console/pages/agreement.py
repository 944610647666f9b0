"""Agreement: how far people are with their answers, and how far they agree."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ilf_client.models.tasks import AnnotationAgreement
from services.console.identity import Role, needs
from services.console.pages.reading import ALL_RUNS, newest_runs
from services.console.rendering import page
from services.console.views import answers as views
from services.console.views import commands


@needs(Role.ENGINEER)
async def show(request: Request) -> Response:
    """How far people are with a run, or with all, and how far they agree about one."""
    run, client = commands.bare(request.query_params.get("run", "")), request.app.state.client
    progress, names = await asyncio.gather(client.answers.progress(run=run or ALL_RUNS), newest_runs(request))
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


routes = [Route("/agreement", show)]
