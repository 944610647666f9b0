"""Makes comparison and review tasks of a run's samples, a shard at a time, when people want more of them."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from services.orchestrator.asking import comparison_tasks, review_tasks
from services.orchestrator.browse import sample_rows
from services.orchestrator.ports import Clock, ShardStore, TaskStore
from services.orchestrator.rows import INPUT
from services.orchestrator.run import Run
from services.orchestrator.service import RunService
from services.orchestrator.shards import ShardId, shard_count
from services.orchestrator.tasks import TaskKind

_LOOK_AGAIN = timedelta(minutes=1)
_TASKS_OF = {TaskKind.COMPARISON: comparison_tasks, TaskKind.REVIEW: review_tasks}


class TaskMaker:
    """Remembers how far each run's shards have been looked through; the tasks themselves say which were."""

    def __init__(self, runs: RunService, tasks: TaskStore, shards: ShardStore, clock: Clock) -> None:
        self._runs = runs
        self._tasks = tasks
        self._shards = shards
        self._clock = clock
        self._making = asyncio.Lock()
        self._next: dict[tuple[TaskKind, str], tuple[int, int]] = {}
        self._dry_since: dict[tuple[TaskKind, str], datetime] = {}

    async def make_more(self, kind: TaskKind, run_id: str, seen: tuple[int, int]) -> bool:
        """Makes the tasks of the next shard that has any; False where there is no such shard now.

        Args:
            kind: COMPARISON or REVIEW; tasks for feedback are made by the run itself.
            run_id: The run.
            seen: Its progress when the caller found too few tasks: where there are more by now, none are made.
        """
        if kind is TaskKind.FEEDBACK:
            return False
        async with self._making:
            if (await self._tasks.progress(kind, run_id))[1] > seen[1]:
                return True
            now = self._clock.now()
            since = self._dry_since.get((kind, run_id))
            if since is not None and now - since < _LOOK_AGAIN:
                return False
            run = await self._runs.get(run_id)
            made = await self._make(kind, run)
            if run.ended and not made:
                # It may be resumed, but not every moment.
                self._dry_since[(kind, run_id)] = now
            return made

    async def _make(self, kind: TaskKind, run: Run) -> bool:
        iteration, index = self._next.get((kind, run.id), (1, 0))
        while iteration <= run.spec.iterations:
            rows = await self._shards.finished_rows(ShardId(run.id, iteration, INPUT, 0))
            if rows is None:
                return False
            asked = await self._tasks.asked_shards(kind, run.id, iteration)
            while index < shard_count(rows, run.spec.shard_rows):
                shard = ShardId(run.id, iteration, INPUT, index)
                if not await self._is_chosen(run, shard):
                    return False
                index += 1
                made = index - 1 not in asked and await self._make_shard(kind, run, shard)
                self._next[(kind, run.id)] = (iteration, index)
                if made:
                    return True
            iteration, index = iteration + 1, 0
        return False

    async def _is_chosen(self, run: Run, shard: ShardId) -> bool:
        """Whether the shard has come through the last stage that its samples show."""
        last = "rank" if run.spec.preview_rows else "select"
        return await self._shards.record(shard.of_stage(last)) is not None

    async def _make_shard(self, kind: TaskKind, run: Run, shard: ShardId) -> bool:
        tasks = _TASKS_OF[kind](run.spec, shard, await sample_rows(self._shards, shard))
        await self._tasks.add(tasks)
        return bool(tasks)
