"""rank: calls of a fixed composition, each sent as soon as all of its rows have refinements."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial

from ilf_common.errors import IlfError, InternalError
from services.orchestrator.calls import Item, Outcome
from services.orchestrator.models import REWARD_MODEL, RankerSpec, RunSpec
from services.orchestrator.rows import Row, Score
from services.orchestrator.seeds import item_seed
from services.orchestrator.waiting import collect
from services.orchestrator.work import Made, RunWork

STAGE = "rank"
_Scores = dict[str, Outcome[tuple[Score, ...]]]


def resolved_ranker(spec: RunSpec) -> RankerSpec:
    """The run's ranker; the random one draws from the run's seed where it has none of its own."""
    ranker = spec.rank.ranker
    return replace(ranker, seed=ranker.seed or item_seed(spec.seed, 0, STAGE, ""))


class RankAhead:
    """Ranks the rows of one shard while the rest of them is still being refined.

    Rows are grouped by their place in the shard, never by when they arrive: equal calls give equal scores.
    """

    def __init__(self, work: RunWork, iteration: int, rows: Sequence[Row]) -> None:
        self._work = work
        self._iteration = iteration
        self._size = work.limits.rank_rows
        self._service = work.spec.rank.service
        self._waiting = [self._expected(rows, start) for start in range(0, len(rows), self._size)]
        self._arrived: list[dict[int, Row]] = [{} for _ in self._waiting]
        self._calls: dict[int, tuple[list[Row], asyncio.Task[_Scores]]] = {}

    def _expected(self, rows: Sequence[Row], start: int) -> set[int]:
        chunk = range(start, min(start + self._size, len(rows)))
        return {place for place in chunk if rows[place].failure is None and not rows[place].nothing_to_change}

    def offer(self, place: int, row: Row) -> None:
        """Takes a refined row; the call of its chunk begins with the last one."""
        chunk = place // self._size
        self._arrived[chunk][place] = row
        if self._waiting[chunk] <= self._arrived[chunk].keys():
            rows = [self._arrived[chunk][there] for there in sorted(self._arrived[chunk])]
            self._begin(chunk, [row for row in rows if _wants_scores(row)])

    async def rank(self, rows: Sequence[Row]) -> Made:
        """All rows with their scores; what was not asked for yet, or for other refinements, is asked for now."""
        made: list[Row] = []
        for chunk, start in enumerate(range(0, len(rows), self._size)):
            part = rows[start : start + self._size]
            wanted = [row for row in part if _wants_scores(row)]
            self._begin(chunk, wanted)
        for chunk, start in enumerate(range(0, len(rows), self._size)):
            found = await self._work.patiently(self._service, partial(self._result, chunk))
            made.extend(_scored(row, found) for row in rows[start : start + self._size])
        return Made(made)

    def close(self) -> None:
        """Ends the calls that are still out."""
        for _, task in self._calls.values():
            task.cancel()

    def _begin(self, chunk: int, rows: list[Row]) -> None:
        if chunk in self._calls:
            asked, task = self._calls[chunk]
            if asked == rows:
                return
            task.cancel()
        task = asyncio.create_task(self._ask(rows))
        # A call that fails before its answer is wanted must not be reported as forgotten.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._calls[chunk] = (rows, task)

    async def _result(self, chunk: int) -> _Scores:
        rows, task = self._calls[chunk]
        try:
            return await task
        except IlfError:
            del self._calls[chunk]
            self._begin(chunk, rows)
            raise

    async def _ask(self, rows: Sequence[Row]) -> _Scores:
        if not rows:
            return {}
        items = [
            Item(row.item_id, row.context, row.initial_output or "", row.feedback or "", candidates=row.refinements)
            for row in rows
        ]
        answers = self._answers(items)
        return await collect(self._work.journal.meter.counted(self._service, STAGE, items, answers), items)

    def _answers(self, items: Sequence[Item]) -> AsyncIterator[list[Outcome[tuple[Score, ...]]]]:
        spec, peers = self._work.spec, self._work.peers
        if spec.rank.ranker.name == REWARD_MODEL:
            return peers.reward.rank(spec.rank.reward_models, items)
        return peers.ranking.rank(resolved_ranker(spec), items)


def _wants_scores(row: Row) -> bool:
    return row.failure is None and not row.nothing_to_change


def _scored(row: Row, found: _Scores) -> Row:
    if not _wants_scores(row):
        return row
    outcome = found[row.item_id]
    scores = outcome.result
    if scores is None or len(scores) != len(row.refinements) or not all(math.isfinite(one.score) for one in scores):
        wrong = InternalError("The ranker answered no finite score for each refinement.", reason="NO_SCORES")
        return row.failed(STAGE, outcome.error or wrong)
    return replace(row, scores=scores)
