"""What a service has, and what it has answered of unfinished shards, is counted as it happens."""

from collections.abc import AsyncIterator

import pytest

from services.orchestrator.calls import Item, Outcome
from services.orchestrator.pools.meter import Meter

ITEMS = [Item(name, "context") for name in "abc"]


async def answers(*names: str, broken: bool = False) -> AsyncIterator[list[Outcome[str]]]:
    for name in names:
        yield [Outcome(name, "text")]
    if broken:
        raise ConnectionError


async def test_items_are_in_flight_until_they_are_answered() -> None:
    meter = Meter()
    seen = []
    async for _ in meter.counted("refinement", "refine", ITEMS, answers("a", "b")):
        seen.append((meter.in_flight("refinement"), meter.answered("refinement", "refine")))
    assert seen == [(2, 1), (1, 2)]
    assert meter.in_flight("refinement") == 0


async def test_a_call_that_breaks_off_leaves_nothing_in_flight_and_its_repeat_counts_no_row_twice() -> None:
    meter = Meter()
    with pytest.raises(ConnectionError):
        async for _ in meter.counted("refinement", "refine", ITEMS, answers("a", broken=True)):
            pass
    assert meter.in_flight("refinement") == 0
    async for _ in meter.counted("refinement", "refine", ITEMS, answers("a", "b", "c")):
        pass
    assert meter.answered("refinement", "refine") == 3


async def test_rows_of_a_finished_shard_are_the_progress_s_to_count() -> None:
    meter = Meter()
    async for _ in meter.counted("refinement", "refine", ITEMS, answers("a", "b", "c")):
        pass
    meter.shard_finished("rank", "abc")
    assert meter.answered("refinement", "refine") == 3
    meter.shard_finished("refine", "ab")
    assert meter.answered("refinement", "refine") == 1
