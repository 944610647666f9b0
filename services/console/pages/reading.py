"""What several pages read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.requests import Request

from ilf_client.models.runs import Run, RunSample, SampleFilter

_AT_ONCE = 100


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
