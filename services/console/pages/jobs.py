"""Finetune jobs, with their loss while they run."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ilf_client.models.jobs import FinetuneJob
from services.console import audit
from services.console.identity import Role, needs
from services.console.rendering import flash, page
from services.console.views import charts, commands
from services.console.views.jobs import loss_points
from services.console.views.stages import badge_kind

_MOST = 500


@needs(Role.ENGINEER)
async def show_all(request: Request) -> Response:
    """All jobs, the newest first."""
    found = [job async for job in request.app.state.client.jobs.list()]
    found.sort(key=lambda job: (job.create_time is not None, job.create_time), reverse=True)
    return page(
        request,
        "jobs.html",
        jobs=found[:_MOST],
        left_out=max(0, len(found) - _MOST),
        badge_kind=badge_kind,
        command="ilf jobs list",
    )


@needs(Role.ENGINEER)
async def show(request: Request) -> Response:
    """One job; its live part is renewed while it runs."""
    values = await _live(request)
    action = "show" if values["job"].state.is_final else "watch"
    return page(request, "job.html", command=commands.of("jobs", action, values["job"].name), **values)


@needs(Role.ENGINEER, keeps_alive=False)
async def live(request: Request) -> Response:
    """The part that is renewed."""
    return page(request, "job_live.html", **await _live(request))


@needs(Role.ENGINEER)
async def ask_cancel(request: Request) -> Response:
    """Says what cancelling does."""
    job = await _job(request)
    return page(
        request,
        "confirm.html",
        title=f"Cancel {job.name}?",
        says=[
            "Training stops and what it has learned so far is not published.",
            "A run that waits for this job fails; it can be resumed, and then begins the job anew.",
        ],
        button="Cancel the job",
        possible=f"It is {job.state.value} already: there is nothing to cancel." if job.state.is_final else "",
        back=f"/{job.name}",
        fields={},
        command=commands.of("jobs", "cancel", job.name),
    )


@needs(Role.ENGINEER)
async def cancel(request: Request) -> Response:
    """Ends the job."""
    job = await request.app.state.client.jobs.cancel(request.path_params["job"])
    audit.record(request, "cancel", job.name)
    flash(request, f"{job.name} is {job.state.value}.")
    return RedirectResponse(f"/{job.name}", status_code=303)


async def _job(request: Request) -> FinetuneJob:
    found: FinetuneJob = await request.app.state.client.jobs.get(request.path_params["job"])
    return found


async def _live(request: Request) -> dict[str, Any]:
    job = await _job(request)
    points = loss_points(job.progress)
    return {
        "job": job,
        "points": points,
        "plot": await asyncio.to_thread(charts.draw, charts.loss_chart(points)) if len(points) > 1 else "",
        "badge_kind": badge_kind,
    }


routes = [
    Route("/jobs", show_all),
    Route("/jobs/{job}", show),
    Route("/jobs/{job}/live", live),
    Route("/jobs/{job}/cancel", ask_cancel),
    Route("/jobs/{job}/cancel", cancel, methods=["POST"]),
]
