"""The sample browser: an iteration's rows page by page, filtered and sorted where that is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from ilf_common.errors import require
from services.orchestrator.browse import page_size_of, sample_rows, samples
from services.orchestrator.ports import SampleIndex, ShardStore
from services.orchestrator.rows import INPUT, Row
from services.orchestrator.run import Run
from services.orchestrator.sample_query import SamplePlace, SampleQuery
from services.orchestrator.shards import ShardId

_SHARDS_AT_ONCE = 4


@dataclass(frozen=True)
class SamplePage:
    """Rows with all that is known of them so far.

    Attributes:
        rows: In the order of the query.
        next_token: Of the page after it, empty on the last one.
        total: Rows that the filter lets through, on all pages.
    """

    rows: Sequence[Row]
    next_token: str
    total: int


class SampleBrowser:
    """Rows come from the shards; what the index adds is which ones, and in which order."""

    def __init__(self, shards: ShardStore, index: SampleIndex) -> None:
        self._shards = shards
        self._index = index

    async def page(self, run: Run, iteration: int, query: SampleQuery, page_size: int, page_token: str) -> SamplePage:
        """One page of an iteration.

        Raises:
            InvalidArgumentError: The run has no such iteration, the query contradicts itself, or the token belongs to
                another one.
        """
        _require_iteration(run, iteration)
        query.check()
        if query.plain:
            if not page_token:
                self._index.prepare(run, iteration)
            rows, token = await samples(self._shards, run, iteration, page_size, page_token)
            return SamplePage(rows, token, await self._count(run, iteration))
        scope = (run.id, iteration, query)
        size = page_size_of(page_size)
        after = SamplePlace.of_token(page_token, scope)
        found = await self._index.find(run, iteration, query, after, size + 1)
        places = found.places[:size]
        token = places[-1].token(scope) if len(found.places) > size else ""
        return SamplePage(await self._rows(run, iteration, places), token, found.total)

    async def _count(self, run: Run, iteration: int) -> int:
        """Rows of an iteration; while its input is being written, those that are there."""
        first = ShardId(run.id, iteration, INPUT, 0)
        finished = await self._shards.finished_rows(first)
        if finished is not None:
            return finished
        count = 0
        while record := await self._shards.record(ShardId(run.id, iteration, INPUT, count // run.spec.shard_rows)):
            count += record.rows
            if record.rows < run.spec.shard_rows:
                break
        return count

    async def _rows(self, run: Run, iteration: int, places: Sequence[SamplePlace]) -> list[Row]:
        """The rows at these places; some shards are read side by side, each once."""
        sorted_places = sorted(places, key=lambda place: (place.shard, place.position))
        wanted = {
            shard: [place.position for place in group]
            for shard, group in groupby(sorted_places, key=lambda place: place.shard)
        }
        # A few at a time: more of them only wait for each other.
        reading = asyncio.Semaphore(_SHARDS_AT_ONCE)

        async def read(shard: int, positions: Sequence[int]) -> list[Row]:
            async with reading:
                return await sample_rows(self._shards, ShardId(run.id, iteration, INPUT, shard), positions)

        parts = await asyncio.gather(*(read(shard, positions) for shard, positions in wanted.items()))
        found = {
            (shard, position): row
            for (shard, positions), rows in zip(wanted.items(), parts, strict=True)
            for position, row in zip(positions, rows, strict=False)
        }
        return [row for place in places if (row := found.get((place.shard, place.position)))]


def _require_iteration(run: Run, iteration: int) -> None:
    require(1 <= iteration <= run.spec.iterations, "iteration", f"must be 1 to {run.spec.iterations}, is {iteration}")
