"""Whether the judges' scores mean what they say, by what people have answered in reviews."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ilf_client.models.runs import Run
from ilf_client.stages import newest_refined
from services.console.identity import Role, needs
from services.console.pages.reading import first, run_of, samples_by_id
from services.console.rendering import page
from services.console.views import charts, commands, labels
from services.console.views.search import read_search

_MOST_REVIEWS = 20_000


@needs(Role.ENGINEER)
async def show(request: Request) -> Response:
    """Reliability plots of the ensemble and of each judge on an iteration's reviewed refinements."""
    run = await run_of(request)
    iteration = read_search(request.query_params).iteration or newest_refined(run)
    reviews = labels.answered(
        await first(_MOST_REVIEWS, request.app.state.client.reviews.show(run=run.name)), iteration
    )
    ids = sorted({review.item_id for review in reviews})
    samples = await samples_by_id(request, run.name, iteration, ids) if ids else {}
    judges = await asyncio.to_thread(labels.reliability, reviews, samples)
    return page(
        request,
        "reliability.html",
        run=run,
        iteration=iteration,
        iterations=[i.index for i in run.iterations if any(s.stage == "rank" for s in i.stages)],
        reviews=len(reviews),
        shares=labels.shares(reviews),
        judges=judges,
        plots=await asyncio.to_thread(_plots, run, iteration, judges),
        command=commands.judge_by_reviews(run.name, iteration),
    )


def _plots(run: Run, iteration: int, judges: Sequence[labels.JudgeReliability]) -> dict[str, Markup]:
    """A plot for each judge; points lead to the samples whose chosen refinement has such a score."""
    found = {}
    for judge in judges:
        bounds = [{"iteration": iteration, "min_score": part.low, "max_score": part.high} for part in judge.bins]
        hrefs = [f"/{run.name}/samples?{urlencode(bound)}" for bound in bounds]
        linked = hrefs if judge.judge == labels.ENSEMBLE else [""] * len(hrefs)
        found[judge.judge] = charts.draw(charts.reliability_chart(f"Reliability of {judge.judge}", judge.bins, linked))
    return found


routes = [Route("/runs/{run}/reliability", show)]
