"""The live record of a run: every change is told to watchers at once and reaches the database soon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from ilf_common.errors import RetryableError
from services.orchestrator.pools.meter import Meter
from services.orchestrator.ports import Clock, RunStore
from services.orchestrator.run import Metric, Progress, Run, RunState, StageState, StageStatus, Usage, Waiting

_SAVE_SECONDS = 1.0
_RETRY_SECONDS = 2.0


class Signal:
    """Wakes everybody who waits, each time it is given."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def give(self) -> None:
        """Wakes all who hold a ticket."""
        self._event.set()
        self._event = asyncio.Event()

    def ticket(self) -> asyncio.Event:
        """Set by the next signal. Take it before looking at what the signal is about, so that none is missed."""
        return self._event


async def wait_for(ticket: asyncio.Event, seconds: float) -> None:
    """Returns at a ticket's signal, or after some seconds."""
    try:
        await asyncio.wait_for(ticket.wait(), seconds)
    except TimeoutError:
        return


class Journal:
    """Holds a run while it works. Progress is saved about once a second, everything else at once.

    Attributes:
        changed: Given at each change.
        meter: Counts rows between the shards that progress counts.
    """

    def __init__(self, run: Run, store: RunStore, clock: Clock) -> None:
        self._run = run
        self._store = store
        self._clock = clock
        self._saving = asyncio.Lock()
        self._saved_at = clock.now()
        self._waits: dict[object, Waiting] = {}
        self.changed = Signal()
        self.meter = Meter()

    @property
    def run(self) -> Run:
        """The run now."""
        return self._run

    async def change(self, change: Callable[[Run], Run]) -> Run:
        """Changes the run and saves it."""
        self._apply(change)
        await self._save()
        return self._run

    def _apply(self, change: Callable[[Run], Run]) -> None:
        self._run = change(self._run)
        self.changed.give()

    async def _save(self) -> None:
        async with self._saving:
            self._saved_at = self._clock.now()
            try:
                while not await self._try_to_save():
                    await self._clock.sleep(_RETRY_SECONDS)
            finally:
                self.go_on(self)

    async def _try_to_save(self) -> bool:
        saving = asyncio.ensure_future(self._store.save(self._run))
        try:
            await asyncio.shield(saving)
        except asyncio.CancelledError:
            # A write that has begun goes on, and must not overtake the next one, which waits for this one's lock.
            await asyncio.wait({saving})
            raise
        except RetryableError as error:
            self.wait(self, error.reason, error.message)
            return False
        return True

    async def begin_stage(self, iteration: int, stage: str, total: int) -> None:
        """Marks a stage as running, nothing done yet; shards that are reused are counted again."""
        start = self._run.stage(iteration, stage).start_time or self._clock.now()
        status = StageStatus(stage, StageState.RUNNING, Progress(0, total), start_time=start)
        await self.change(lambda run: run.with_stage(iteration, status))

    async def advance(self, iteration: int, stage: str, *, done: int, bad: int, usage: Usage) -> StageStatus:
        """Counts finished rows of a stage."""
        before = self._run.stage(iteration, stage)
        status = replace(
            before,
            progress=Progress(before.progress.done + done, before.progress.total),
            bad_rows=before.bad_rows + bad,
            usage=before.usage + usage,
        )
        await self._note(iteration, status)
        return status

    async def set_progress(self, iteration: int, stage: str, done: int, total: int) -> None:
        """Sets how far a stage is."""
        await self._note(iteration, replace(self._run.stage(iteration, stage), progress=Progress(done, total)))

    async def _note(self, iteration: int, status: StageStatus) -> None:
        self._apply(lambda run: run.with_stage(iteration, status))
        if (self._clock.now() - self._saved_at).total_seconds() >= _SAVE_SECONDS:
            await self._save()

    async def end_stage(self, iteration: int, stage: str, state: StageState = StageState.SUCCEEDED) -> None:
        """Marks a stage as ended."""
        status = replace(self._run.stage(iteration, stage), state=state, end_time=self._clock.now())
        await self.change(lambda run: run.with_stage(iteration, status))

    async def set_metrics(self, iteration: int, metrics: Mapping[str, Metric]) -> None:
        """Adds metrics to an iteration."""

        def change(run: Run) -> Run:
            before = run.iteration(iteration)
            return run.with_iteration(replace(before, metrics={**before.metrics, **metrics}))

        await self.change(change)

    def wait(self, who: object, reason: str, message: str) -> None:
        """Says that a part of the work waits, and for what."""
        since = self._waits[who].since if who in self._waits else self._clock.now()
        self._waits[who] = Waiting(reason, message, since)
        self._show_waits()

    def go_on(self, who: object) -> None:
        """Takes back what `wait` said."""
        if self._waits.pop(who, None) is not None:
            self._show_waits()

    def _show_waits(self) -> None:
        if self._run.state not in (RunState.RUNNING, RunState.WAITING):
            return
        waiting = min(self._waits.values(), key=lambda item: item.since, default=None)
        state = RunState.WAITING if waiting else RunState.RUNNING
        self._apply(lambda run: replace(run, state=state, waiting=waiting))
