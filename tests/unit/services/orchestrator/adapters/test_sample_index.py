"""What an iteration's samples are found by, over shards in a local store."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ilf_common.artifacts import ArtifactStore
from ilf_common.errors import UnavailableError
from services.orchestrator.adapters.sample_index import SampleIndexFiles
from services.orchestrator.adapters.shard_files import ShardFiles
from services.orchestrator.models import RunSpec
from services.orchestrator.rows import INPUT, Failure, Row, Score, to_columns
from services.orchestrator.run import Run, RunState
from services.orchestrator.sample_query import SampleFilter, SampleOrder, SamplePlace, SampleQuery
from services.orchestrator.samples import SampleBrowser
from services.orchestrator.shards import ShardId, ShardRecord

STAGES = (INPUT, "generate", "feedback", "refine", "rank", "select")
RUN = Run("r", RunSpec(iterations=2, shard_rows=3), RunState.SUCCEEDED, datetime.now(UTC), generation=1)


def row(name: str, *scores: float, chosen: int | None = None, **changes: object) -> Row:
    best = max(range(len(scores)), key=lambda index: scores[index]) if scores else -1
    made = Row(
        name,
        context=f"context of {name}",
        initial_output=f"output of {name}",
        feedback=f"feedback on {name}",
        refinements=tuple("x" * (index + 1) for index in range(len(scores))),
        scores=tuple(Score(value, value / 10, value / 100, (("judge", value, 0.0),)) for value in scores),
        weights=tuple(float(index == best) for index in range(len(scores))),
        chosen_index=best if chosen is None else chosen,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


FAILED = Failure("rank", "InternalError", "NO_SCORES", "no score")
ROWS = (
    row("a", 0.5, 0.25),
    row("b", 0.75),
    row("c", failure=FAILED),
    row("d", -0.5, -1.5, context="100 % sure_ly; 'DROP TABLE samples' -- Äpfel"),
    row("e", 0.5, 0.5, 0.5, chosen=2),
    row("kept", nothing_to_change=True, refinements=("output of kept",), weights=(1.0,), chosen_index=0),
    row("g", 0.125, 0.5),
)


@pytest.fixture
def shards(tmp_path: Path) -> ShardFiles:
    return ShardFiles(ArtifactStore(str(tmp_path / "store")))


async def publish(
    shards: ShardFiles, rows: Sequence[Row], *, stages: Sequence[str] = STAGES, generation: int = 1, first: int = 0
) -> None:
    """The shards of some rows, from the shard number `first` on."""
    for start in range(0, len(rows), 3):
        part = rows[start : start + 3]
        for stage in stages:
            record = ShardRecord("key", {}, "", 0, len(part), 0, generation=generation)
            shard = ShardId("r", 1, stage, first + start // 3)
            await shards.publish(shard, to_columns(stage, part), record)


async def finish(shards: ShardFiles, rows: int) -> None:
    await shards.finish(ShardId("r", 1, INPUT, 0), rows, 3)


@pytest.fixture
def index(tmp_path: Path, shards: ShardFiles) -> SampleIndexFiles:
    return SampleIndexFiles(tmp_path / "index", shards)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store of a finished iteration, and its index."""
    folder = tmp_path_factory.mktemp("published")

    async def fill() -> None:
        shards = ShardFiles(ArtifactStore(str(folder / "store")))
        await publish(shards, ROWS)
        await finish(shards, len(ROWS))

    asyncio.run(fill())
    return folder


def browser_of(folder: Path) -> SampleBrowser:
    shards = ShardFiles(ArtifactStore(str(folder / "store")))
    return SampleBrowser(shards, SampleIndexFiles(folder / "index", shards))


@pytest.fixture
def browser(published: Path) -> SampleBrowser:
    """Samples that no test may change."""
    return browser_of(published)


@pytest.fixture
def copied(published: Path, tmp_path: Path) -> Path:
    """The same in a folder that a test may damage."""
    return shutil.copytree(published, tmp_path / "copied")


async def names(browser: SampleBrowser, query: SampleQuery, run: Run = RUN, size: int = 100) -> list[str]:
    """Ids of all rows of a query, page by page; checks that each page says how many there are."""
    found: list[str] = []
    totals = set()
    token = ""
    while True:
        page = await browser.page(run, 1, query, size, token)
        assert len(page.rows) <= size
        found += [one.item_id for one in page.rows]
        totals.add(page.total)
        token = page.next_token
        if not token:
            break
    assert totals == {len(found)}
    return found


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (SampleFilter(text="FEEDBACK ON A"), "a"),
        (SampleFilter(text="output of g"), "g"),
        (SampleFilter(text="xxx"), "e"),
        (SampleFilter(text="100 %"), "d"),
        (SampleFilter(text="%"), "d"),
        (SampleFilter(text="sure_ly"), "d"),
        (SampleFilter(text="sure.ly"), ""),
        (SampleFilter(text="'drop table samples' --"), "d"),
        (SampleFilter(text="äPFEL"), "d"),
        (SampleFilter(text="\\"), ""),
        (SampleFilter(text="\0"), ""),
        (SampleFilter(min_score=0.5), "a b e g"),
        (SampleFilter(max_score=0.5), "a d e g"),
        (SampleFilter(min_score=0.0, max_score=0.0), ""),
        (SampleFilter(min_score=float("-inf")), "a b d e g"),
        (SampleFilter(min_spread=0.06), "b"),
        (SampleFilter(max_spread=-0.04), "d"),
        (SampleFilter(min_length=2), "e kept g"),
        (SampleFilter(min_length=0, max_length=1), "a b d"),
        (SampleFilter(failed=True), "c"),
        (SampleFilter(failed=False), "a b d e kept g"),
        (SampleFilter(item_ids=("g", "a", "nobody", "' OR 1=1 --")), "a g"),
        (SampleFilter(text="context of", min_score=0.5, item_ids=("b", "c", "g")), "b g"),
    ],
)
async def test_only_rows_that_meet_all_conditions_are_found(
    browser: SampleBrowser, where: SampleFilter, expected: str
) -> None:
    assert await names(browser, SampleQuery(where)) == expected.split()


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("order", "rising", "falling"),
    [
        (SampleOrder.DATASET, "a b c d e kept g", "g kept e d c b a"),
        (SampleOrder.SCORE, "d a e g b c kept", "b a e g d c kept"),
        (SampleOrder.SPREAD, "d a e g b c kept", "b a e g d c kept"),
        (SampleOrder.MISSING_MASS, "d a e g b c kept", "b a e g d c kept"),
        (SampleOrder.LENGTH, "a b d g e kept c", "kept e g a b d c"),
    ],
)
async def test_pages_follow_the_order_and_rows_without_its_value_come_last(
    browser: SampleBrowser, order: SampleOrder, rising: str, falling: str, size: int
) -> None:
    assert await names(browser, SampleQuery(order_by=order), size=size) == rising.split()
    assert await names(browser, SampleQuery(order_by=order, descending=True), size=size) == falling.split()


async def test_rows_are_answered_whole_whatever_finds_them(browser: SampleBrowser) -> None:
    plain = await browser.page(RUN, 1, SampleQuery(), 100, "")
    sorted_back = await browser.page(RUN, 1, SampleQuery(descending=True), 100, "")
    assert list(plain.rows) == list(reversed(sorted_back.rows))
    assert plain.total == sorted_back.total == len(ROWS)
    assert plain.rows[4] == replace(ROWS[4], reference=None)


async def test_before_anything_is_selected_the_highest_score_counts_as_chosen(
    shards: ShardFiles, index: SampleIndexFiles
) -> None:
    await publish(shards, [row("p", 0.25, 0.75, 0.75)], stages=STAGES[:-1])
    await finish(shards, 1)
    preview = replace(RUN, state=RunState.RUNNING)
    browser = SampleBrowser(shards, index)
    assert await names(browser, SampleQuery(SampleFilter(min_score=0.75, min_length=2, max_length=2)), preview) == ["p"]


async def test_what_is_published_and_made_again_is_found_at_once(shards: ShardFiles, index: SampleIndexFiles) -> None:
    working = replace(RUN, state=RunState.RUNNING)
    browser = SampleBrowser(shards, index)
    good = SampleQuery(SampleFilter(min_score=0.0))
    everything = SampleQuery(descending=True)
    await publish(shards, ROWS[:6], stages=(INPUT,))
    assert await names(browser, good, working) == []
    assert await names(browser, everything, working) == ["kept", "e", "d", "c", "b", "a"]
    assert (await browser.page(working, 1, SampleQuery(), 1, "")).total == 6
    await publish(shards, ROWS[6:], stages=(INPUT,), first=2)
    await finish(shards, 7)
    await publish(shards, ROWS[:3], stages=STAGES[1:])
    assert await names(browser, good, working) == ["a", "b"]
    resumed = replace(working, generation=2)
    await publish(shards, [row("a", 1.0), row("b", -1.0), row("c", 0.0)], stages=STAGES[1:], generation=2)
    assert await names(browser, good, resumed) == ["a", "c"]
    ended = replace(resumed, state=RunState.FAILED)
    assert await names(browser, everything, ended) == ["g", "kept", "e", "d", "c", "b", "a"]


async def test_a_broken_part_hides_what_it_says_and_nothing_else(copied: Path) -> None:
    shutil.rmtree(copied / "index", ignore_errors=True)
    browser = browser_of(copied)
    (copied / "store" / "runs/r/it-1/rank/part-00000.parquet").write_bytes(b"broken")
    assert await names(browser, SampleQuery(SampleFilter(min_score=-9.0))) == ["d", "e", "g"]
    assert await names(browser, SampleQuery(SampleFilter(text="CONTEXT OF"))) == ["a", "b", "c", "e", "kept", "g"]


async def test_a_broken_or_lost_index_is_made_again(copied: Path) -> None:
    browser = browser_of(copied)
    query = SampleQuery(order_by=SampleOrder.SCORE)
    first = await names(browser, query)
    (file,) = (copied / "index").rglob("*.duckdb")
    file.write_bytes(b"nothing that a database would write")
    assert await names(browser, query) == first
    file.unlink()
    assert await names(browser, query) == first


async def test_a_finished_iteration_is_read_only_once(copied: Path) -> None:
    query = SampleQuery(order_by=SampleOrder.SCORE)
    first = await names(browser_of(copied), query)
    for part in (copied / "store").rglob("part-*.parquet"):
        part.write_bytes(b"")
    shards = ShardFiles(ArtifactStore(str(copied / "store")))
    found = await SampleIndexFiles(copied / "index", shards).find(RUN, 1, query, None, 100)
    assert [ROWS[place.shard * 3 + place.position].item_id for place in found.places] == first


async def test_a_look_at_the_first_page_prepares_what_filters_need(copied: Path) -> None:
    shutil.rmtree(copied / "index", ignore_errors=True)
    await browser_of(copied).page(RUN, 1, SampleQuery(), 2, "")
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not asyncio.current_task()))
    stopped = SampleIndexFiles(copied / "index", ShardFiles(ArtifactStore(str(copied / "store"))))
    stopped.stop()
    assert (await stopped.find(RUN, 1, SampleQuery(descending=True), None, 9)).total == len(ROWS)


async def test_files_that_nobody_asked_for_lately_make_room(published: Path, tmp_path: Path) -> None:
    shards = ShardFiles(ArtifactStore(str(published / "store")))
    folder = tmp_path / "index"
    old, lately = folder / "layout-0" / "gone" / "it-1.duckdb", folder / "layout-1" / "other" / "it-1.duckdb"
    for path, age in ((old, 7200), (lately, 60)):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * 1000)
        os.utime(path, (time.time() - age,) * 2)
    query = SampleQuery(order_by=SampleOrder.SCORE)
    await SampleIndexFiles(folder, shards).find(RUN, 1, query, None, 9)
    assert old.exists(), "there is room"
    (used,) = (path for path in folder.rglob("*.duckdb") if path not in (old, lately))
    os.utime(used, (0, 0))
    await SampleIndexFiles(folder, shards, most_bytes=10).find(RUN, 1, query, None, 9)
    assert not old.exists() and lately.exists() and used.exists(), "what is asked for is as good as new"


async def test_a_file_that_goes_while_room_is_made_is_no_fault(published: Path, tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "gone.duckdb").symlink_to(tmp_path / "nowhere")  # it is listed, and then not there
    index = SampleIndexFiles(tmp_path / "index", ShardFiles(ArtifactStore(str(published / "store"))), most_bytes=10)
    assert (await index.find(RUN, 1, SampleQuery(order_by=SampleOrder.SCORE), None, 9)).total > 0


async def test_many_ask_at_once(browser: SampleBrowser) -> None:
    queries = [SampleQuery(order_by=order) for order in SampleOrder] * 3
    found = await asyncio.gather(*(names(browser, query) for query in queries))
    assert all(sorted(one) == ["a", "b", "c", "d", "e", "g", "kept"] for one in found)


async def test_who_cannot_wait_for_many_shards_is_told_so_and_the_work_goes_on(copied: Path) -> None:
    shutil.rmtree(copied / "index", ignore_errors=True)
    shards = ShardFiles(ArtifactStore(str(copied / "store")))
    index = SampleIndexFiles(copied / "index", shards, patience=0.0)
    with pytest.raises(UnavailableError) as caught:
        await index.find(RUN, 1, SampleQuery(descending=True), None, 100)
    assert caught.value.reason == "SAMPLES_NOT_INDEXED"
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not asyncio.current_task()))
    patient = SampleIndexFiles(copied / "index", shards)
    patient.stop()
    assert (await patient.find(RUN, 1, SampleQuery(descending=True), None, 100)).total == len(ROWS)


async def test_a_process_that_goes_down_takes_in_no_more_shards(copied: Path) -> None:
    shutil.rmtree(copied / "index", ignore_errors=True)
    index = SampleIndexFiles(copied / "index", ShardFiles(ArtifactStore(str(copied / "store"))))
    index.stop()
    with pytest.raises(UnavailableError, match="going down"):
        await index.find(RUN, 1, SampleQuery(descending=True), None, 100)


async def test_a_place_far_behind_all_rows_finds_none_and_still_counts(published: Path) -> None:
    index = SampleIndexFiles(published / "index", ShardFiles(ArtifactStore(str(published / "store"))))
    query = SampleQuery(order_by=SampleOrder.LENGTH)
    found = await index.find(RUN, 1, query, SamplePlace(10**6, 10**6, None), 5)
    assert (found.places, found.total) == ((), 7)
