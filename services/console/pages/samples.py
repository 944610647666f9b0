"""The samples of an iteration: every refinement with what each judge says, filtered and sorted."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ilf_client.models.runs import Run, SampleOrder, SamplePage
from ilf_client.stages import newest_refined
from ilf_common.errors import InvalidArgumentError
from services.console.faults import violations
from services.console.identity import Role, needs
from services.console.pages.reading import run_of
from services.console.rendering import page
from services.console.views import charts, commands, samples
from services.console.views.search import SIZES, SampleSearch, read_search

HEIGHTS = ("spread", "missing mass", "length")
_POINTS = 400
_ORDERS = [order for order in SampleOrder if order is not SampleOrder.UNSPECIFIED]


@needs(Role.ENGINEER)
async def show(request: Request) -> Response:
    """One page of samples; what is wrong with a filter stands beside it."""
    run = await run_of(request)
    wrong: dict[str, str] = {}
    found = SamplePage()
    search = SampleSearch(iteration=newest_refined(run))
    try:
        search = _search(request, run)
        found = await _fetch(request, run, search, search.size, search.page)
    except InvalidArgumentError as error:
        wrong = violations(error)
    return page(
        request,
        "samples.html",
        status_code=400 if wrong else 200,
        run=run,
        search=search,
        given=request.query_params,
        wrong=wrong,
        found=found,
        views=await asyncio.to_thread(lambda: [samples.view(sample) for sample in found.samples]),
        iterations=[i.index for i in run.iterations if any(s.stage == "generate" for s in i.stages)],
        orders=_ORDERS,
        sizes=SIZES,
        heights=HEIGHTS,
        command=_command(run, search, search.size),
    )


@needs(Role.ENGINEER)
async def plot(request: Request) -> Response:
    """The first few hundred samples of a search as points that lead to them."""
    run = await run_of(request)
    search = _search(request, run)
    height = request.query_params.get("y", HEIGHTS[0])
    if height not in HEIGHTS:
        raise InvalidArgumentError.of("y", f"is {height[:40]!r}; known are {', '.join(HEIGHTS)}")
    found = await _fetch(request, run, search, _POINTS, "")
    hrefs = [item_address(run.name, search.iteration, sample.item_id) for sample in found.samples]
    chart = charts.sample_chart(found.samples, hrefs, height)
    return page(
        request,
        "samples_plot.html",
        svg=await asyncio.to_thread(charts.draw, chart),
        points=chart.points,
        total=found.total_size,
        height=height,
        heights=HEIGHTS,
        search=search,
        run=run,
        command=_command(run, search, _POINTS),
    )


def item_address(run: str, iteration: int, item: str) -> str:
    """The page of one sample alone."""
    return f"/{run}/samples?{urlencode({'iteration': iteration, 'item': item})}"


def _search(request: Request, run: Run) -> SampleSearch:
    params = request.query_params
    search = read_search(params, params.getlist("item"))
    return search if search.iteration else replace(search, iteration=newest_refined(run))


def _command(run: Run, search: SampleSearch, limit: int) -> str:
    return commands.list_samples(run.name, search.iteration, search.where, search.order_by, search.descending, limit)


async def _fetch(request: Request, run: Run, search: SampleSearch, size: int, token: str) -> SamplePage:
    found: SamplePage = await request.app.state.client.runs.sample_page(
        run.name,
        iteration=search.iteration,
        where=search.where,
        order_by=search.order_by,
        descending=search.descending,
        page_size=size,
        page_token=token,
    )
    return found


routes = [
    Route("/runs/{run}/samples", show),
    Route("/runs/{run}/samples/plot", plot),
]
