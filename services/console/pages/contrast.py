"""Two runs, or two iterations of one, side by side on the same contexts."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ilf_client.models.comparison import RunComparison
from ilf_client.models.runs import Run, SampleFilter
from ilf_client.stages import newest_refined
from ilf_common.errors import FailedPreconditionError, InvalidArgumentError
from services.console.identity import Role, needs
from services.console.pages.reading import newest_runs, samples_by_id
from services.console.rendering import page
from services.console.views import commands
from services.console.views.samples import Pair, pairs

_SIZE = 10


@needs(Role.ENGINEER)
async def show(request: Request) -> Response:
    """Asks what is to be compared, and shows it: the samples of the first with the same items of the second."""
    given = request.query_params
    chosen = await _chosen(request)
    found: list[Pair] = []
    token = ""
    if chosen is not None:
        found, token = await _pairs(request, *chosen)
    return page(
        request,
        "contrast.html",
        given=given,
        chosen=chosen,
        pairs=found,
        next_page=token,
        runs=await newest_runs(request),
        command=_command(chosen),
    )


@needs(Role.ENGINEER)
async def metrics(request: Request) -> Response:
    """The metrics of both with their differences, item by item where both measured the same ones."""
    chosen = await _chosen(request)
    if chosen is None:
        raise InvalidArgumentError.of("second", "is missing: two runs are compared")
    first, one, second, other = chosen
    found: RunComparison | None = None
    try:
        found = await request.app.state.client.evaluation.compare_runs(
            first.name, second.name, first_iteration=one, second_iteration=other
        )
    except FailedPreconditionError as error:
        if error.reason != "NOT_MEASURED":
            raise
    return page(request, "contrast_metrics.html", found=found, chosen=chosen, command=_command(chosen))


async def _chosen(request: Request) -> tuple[Run, int, Run, int] | None:
    """Both runs with their iterations; where the second is left out, None, unless it can only be one."""
    given = request.query_params
    names = [given.get("first", "").strip(), given.get("second", "").strip()]
    if not all(names):
        return None
    first, second = await asyncio.gather(*(request.app.state.client.runs.get(name) for name in names))
    one = _iteration(given.get("first_iteration", ""), "first_iteration") or newest_refined(first)
    other = _iteration(given.get("second_iteration", ""), "second_iteration") or newest_refined(second)
    return first, one, second, other


def _iteration(text: str, field: str) -> int:
    if not text.strip():
        return 0
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) < 10**6):
        raise InvalidArgumentError.of(field, f"is {text[:40]!r}, a whole number from 1 is wanted")
    return int(text)


async def _pairs(request: Request, first: Run, one: int, second: Run, other: int) -> tuple[list[Pair], str]:
    found = await request.app.state.client.runs.sample_page(
        first.name,
        iteration=one,
        where=SampleFilter(text=request.query_params.get("text", "")),
        page_size=_SIZE,
        page_token=request.query_params.get("page", ""),
    )
    ids = [sample.item_id for sample in found.samples]
    theirs = await samples_by_id(request, second.name, other, ids)
    return await asyncio.to_thread(pairs, found.samples, theirs), found.next_page_token


def _command(chosen: tuple[Run, int, Run, int] | None) -> str:
    if chosen is None:
        return "ilf runs compare FIRST SECOND"
    first, one, second, other = chosen
    return commands.compare(first.name, one, second.name, other)


routes = [Route("/contrast", show), Route("/contrast/metrics", metrics)]
