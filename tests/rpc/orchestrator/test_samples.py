"""The sample browser and the list of runs, from the SDK to the shards of a real run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ilf_client import AsyncClient, Endpoints, InvalidArgumentError, NotFoundError
from ilf_client.models.runs import RunSample, RunState, SampleFilter, SampleOrder
from tests.integration.orchestrator.support import Scene, scene, small_spec
from tests.support import running_server

ROWS = 20


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Scene]:
    async with scene(tmp_path) as opened:
        yield opened


@pytest.fixture
async def client(here: Scene) -> AsyncIterator[AsyncClient]:
    register = here.built.register
    async with running_server(register, component="orchestrator") as address, AsyncClient(Endpoints.at(address)) as it:
        yield it


def score(sample: RunSample) -> float:
    return sample.candidates[sample.chosen_index].score.score


def spread(sample: RunSample) -> float:
    return sample.candidates[sample.chosen_index].score.spread


def length(sample: RunSample) -> int:
    return len(sample.candidates[sample.chosen_index].text)


async def pages(client: AsyncClient, size: int, where: SampleFilter, **options: object) -> list[RunSample]:
    found: list[RunSample] = []
    token = ""
    while True:
        page = await client.runs.sample_page(
            "first",
            iteration=1,
            where=where,
            page_size=size,
            page_token=token,
            **options,  # type: ignore[arg-type]
        )
        found += page.samples
        token = page.next_page_token
        if not token:
            assert page.total_size == len(found)
            return found


async def test_samples_are_filtered_and_sorted_like_a_list_of_them_all(here: Scene, client: AsyncClient) -> None:
    spec = small_spec(here, train=ROWS, evaluate={"disabled": True})
    run = await here.end(await here.create(spec, run_id="first"))
    every = [sample async for sample in client.runs.samples(run.name, iteration=1)]
    assert len(every) == ROWS
    middle = sorted(map(score, every))[ROWS // 2]
    for where, holds in (
        (SampleFilter(), lambda sample: True),
        (SampleFilter(min_score=middle), lambda sample: score(sample) >= middle),
        (SampleFilter(max_score=middle, failed=False), lambda sample: score(sample) <= middle),
        (SampleFilter(text="CONTEXT 1"), lambda sample: "context 1" in sample.context),
        (SampleFilter(item_ids=["train-3", "train-17", "'"]), lambda sample: sample.item_id in ("train-3", "train-17")),
        (SampleFilter(failed=True), lambda sample: False),
    ):
        expected = [sample for sample in every if holds(sample)]
        for order, key in ((SampleOrder.SCORE, score), (SampleOrder.SPREAD, spread), (SampleOrder.LENGTH, length)):
            found = await pages(client, 7, where, order_by=order, descending=True)
            assert found == sorted(expected, key=key, reverse=True)
        assert await pages(client, 3, where) == expected


async def test_what_no_sample_can_answer_is_refused(here: Scene, client: AsyncClient) -> None:
    spec = small_spec(here, train=ROWS, evaluate={"disabled": True})
    await here.end(await here.create(spec, run_id="first"))
    first = await client.runs.sample_page("first", iteration=1, order_by=SampleOrder.SCORE, page_size=1)
    token = first.next_page_token
    for options, field in (
        ({"iteration": 2}, "iteration"),
        ({"iteration": 0, "descending": True}, "iteration"),
        ({"iteration": 1, "where": SampleFilter(min_score=float("nan"))}, "filter.min_score"),
        ({"iteration": 1, "where": SampleFilter(min_length=-1)}, "filter.min_length"),
        ({"iteration": 1, "where": SampleFilter(min_spread=1.0, max_spread=0.5)}, "filter.min_spread"),
        ({"iteration": 1, "descending": True, "page_size": -1}, "page_size"),
        ({"iteration": 1, "descending": True, "page_token": "x"}, "page_token"),
        ({"iteration": 1, "page_token": token}, "page_token"),
        ({"iteration": 1, "order_by": SampleOrder.SPREAD, "page_token": token}, "page_token"),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            await client.runs.sample_page("first", **options)  # type: ignore[arg-type]
        assert [violation.field for violation in caught.value.violations] == [field]
    with pytest.raises(NotFoundError):
        await client.runs.sample_page("nothing", iteration=1, order_by=SampleOrder.SCORE)


async def test_runs_come_newest_first_and_are_found_by_state_and_text(here: Scene, client: AsyncClient) -> None:
    for name in ("zebra", "apple"):
        await here.create(small_spec(here, preview_rows=1), run_id=name)
        await client.runs.cancel(name)
    assert [run.name async for run in client.runs.list()] == ["runs/apple", "runs/zebra"]
    assert [run.name async for run in client.runs.list(text="ZEB")] == ["runs/zebra"]
    assert [run.name async for run in client.runs.list(text="BASE")] == ["runs/apple", "runs/zebra"]
    running = client.runs.list(states=[RunState.RUNNING, RunState.WAITING])
    assert [run.name async for run in running] == []
