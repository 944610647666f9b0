"""A run while it goes on: stages, metrics, what it waits for, what it costs; to cancel and to resume it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ilf_client.config import plain
from ilf_client.models.pools import Pool
from ilf_client.models.runs import Iteration, Metric, Run, RunState
from services.console import audit
from services.console.identity import Role, needs
from services.console.pages.reading import run_of
from services.console.rendering import flash, page
from services.console.views import charts, commands, stages


@needs(Role.ENGINEER)
async def show(request: Request) -> Response:
    """The run; its live part is renewed while it goes on."""
    run = await run_of(request)
    spec = yaml.safe_dump(plain(run.spec), sort_keys=False, allow_unicode=True)
    return page(
        request,
        "run.html",
        spec=spec,
        command=commands.of("runs", "show" if run.state.is_final else "watch", commands.bare(run.name)),
        **await _live(request, run),
    )


@needs(Role.ENGINEER, keeps_alive=False)
async def live(request: Request) -> Response:
    """The part that is renewed."""
    return page(request, "run_live.html", **await _live(request, await run_of(request)))


@needs(Role.ENGINEER)
async def ask_cancel(request: Request) -> Response:
    """Says what cancelling does."""
    run = await run_of(request)
    return _ask(
        request,
        run,
        title=f"Cancel {commands.bare(run.name)}?",
        says=[
            "The run stops at once, and its finetune job with it. Finished shards, samples and policy versions stay.",
            "It can be resumed later: it goes on from its last finished shard. A finetune job begins anew.",
        ],
        action="cancel",
        button="Cancel the run",
        possible="" if not run.state.is_final else f"It is {run.state.value} already: there is nothing to cancel.",
    )


@needs(Role.ENGINEER)
async def cancel(request: Request) -> Response:
    """Stops the run."""
    run = await request.app.state.client.runs.cancel(request.path_params["run"])
    audit.record(request, "cancel", run.name)
    flash(request, f"{commands.bare(run.name)} is {run.state.value}.")
    return RedirectResponse(f"/{run.name}", status_code=303)


@needs(Role.ENGINEER)
async def ask_resume(request: Request) -> Response:
    """Says what resuming does."""
    run = await run_of(request)
    can = run.state in (RunState.FAILED, RunState.CANCELLED)
    return _ask(
        request,
        run,
        title=f"Resume {commands.bare(run.name)}?",
        says=[
            "The run goes on from its last finished shard, with the same spec; what is finished is not done again.",
            "It is refused where a model that it uses has changed meanwhile under the same name.",
        ],
        action="resume",
        button="Resume the run",
        possible="" if can else f"It is {run.state.value}: only a run that failed or was cancelled can be resumed.",
    )


@needs(Role.ENGINEER)
async def resume(request: Request) -> Response:
    """Goes on with the run."""
    run = await request.app.state.client.runs.resume(request.path_params["run"])
    audit.record(request, "resume", run.name)
    flash(request, f"{commands.bare(run.name)} goes on.")
    return RedirectResponse(f"/{run.name}", status_code=303)


def _ask(request: Request, run: Run, **values: Any) -> Response:
    command = commands.of("runs", values["action"], commands.bare(run.name))
    return page(request, "confirm.html", back=f"/{run.name}", fields={}, command=command, **values)


async def _live(request: Request, run: Run) -> dict[str, Any]:
    pools: list[Pool] = []
    if not run.state.is_final:
        pools = [pool async for pool in request.app.state.client.pools()]
    metrics = charts.metrics_by_name(run.iterations)
    sampled = {iteration.index for iteration in run.iterations if _is_sampled(iteration)}
    return {
        "run": run,
        "pools": pools,
        "iterations": [(iteration, stages.stage_rows(iteration)) for iteration in run.iterations],
        "usage": stages.usage_of(run.iterations),
        "costs": stages.preview_costs(run, None),
        **await asyncio.to_thread(_drawn, run, metrics, sampled),
        "metrics": metrics,
        "sampled": sampled,
        "badge_kind": stages.badge_kind,
    }


def _drawn(run: Run, metrics: Mapping[str, Sequence[tuple[int, Metric]]], sampled: set[int]) -> dict[str, Any]:
    plots = {
        name: charts.draw(charts.metric_chart(name, points, [_place(run, index, sampled) for index, _ in points]))
        for name, points in metrics.items()
    }
    bars = charts.stage_bars(run.iterations, run.end_time) if run.end_time else None
    return {"plots": plots, "times": charts.draw(bars) if bars else ""}


def _place(run: Run, index: int, sampled: set[int]) -> str:
    """Where a point of an iteration leads: its samples, or its stages where it has none."""
    return f"/{run.name}/samples?iteration={index}" if index in sampled else f"/{run.name}#it-{index}"


def _is_sampled(iteration: Iteration) -> bool:
    return any(stage.stage == "generate" and stage.progress.done for stage in iteration.stages)


routes = [
    Route("/runs/{run}", show),
    Route("/runs/{run}/live", live),
    Route("/runs/{run}/cancel", ask_cancel),
    Route("/runs/{run}/cancel", cancel, methods=["POST"]),
    Route("/runs/{run}/resume", ask_resume),
    Route("/runs/{run}/resume", resume, methods=["POST"]),
]
