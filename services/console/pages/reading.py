"""What several pages read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TypeVar

from starlette.requests import Request

from ilf_client.models.runs import Run, RunSample, SampleFilter
from services.console.views.commands import bare

T = TypeVar("T")

ALL_RUNS = "-"
"""Where a run is asked for, the answers of all."""

_AT_ONCE = 100
_OFFERED_RUNS = 50


async def run_of(request: Request) -> Run:
    """The run that the address names."""
    found: Run = await request.app.state.client.runs.get(request.path_params["run"])
    return found


async def samples_by_id(request: Request, run: str, iteration: int, item_ids: Sequence[str]) -> Mapping[str, RunSample]:
    """Those of the items that the iteration has."""
    found: dict[str, RunSample] = {}
    for start in range(0, len(item_ids), _AT_ONCE):
        part = tuple(item_ids[start : start + _AT_ONCE])
        page = await request.app.state.client.runs.sample_page(
            run, iteration=iteration, where=SampleFilter(item_ids=part), page_size=len(part)
        )
        found |= {sample.item_id: sample for sample in page.samples}
    return found


async def newest_runs(request: Request) -> list[str]:
    """The ids of the newest runs, which a page offers to choose from."""
    return [bare(run.name) for run in await first(_OFFERED_RUNS, request.app.state.client.runs.list())]


async def first(count: int, items: AsyncIterator[T]) -> list[T]:
    """At most so many of the items; no page is asked for after them."""
    found: list[T] = []
    async for item in items:
        found.append(item)
        if len(found) == count:
            break
    return found
