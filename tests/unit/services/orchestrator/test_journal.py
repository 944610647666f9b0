from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from ilf_common.errors import UnavailableError
from services.orchestrator.journal import Journal
from services.orchestrator.models import RunSpec
from services.orchestrator.run import Metric, Run, RunState, StageState, Usage
from tests.fakes.orchestrator_outside import StillClock

RUN = Run("a", RunSpec(), RunState.RUNNING, datetime(2026, 1, 1, tzinfo=UTC))


@dataclass
class Store:
    """Notes what is saved; fails so many times first."""

    failures: int = 0
    saved: list[Run] = field(default_factory=list)

    async def save(self, run: Run) -> None:
        if self.failures:
            self.failures -= 1
            raise UnavailableError("away", reason="DATABASE_UNAVAILABLE")
        self.saved.append(run)


class SlowStore(Store):
    """Saves in a thread, as a database does; the first save is overtaken by the second, if that is let in."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.overtaken = threading.Event(), threading.Event()

    async def save(self, run: Run) -> None:
        await asyncio.to_thread(self._write, run)

    def _write(self, run: Run) -> None:
        if not self.begun.is_set():
            self.begun.set()
            self.overtaken.wait(0.3)
        self.saved.append(run)
        self.overtaken.set()


def journal_of(store: Store) -> Journal:
    return Journal(RUN, store, StillClock())  # type: ignore[arg-type]


async def test_a_database_that_is_away_is_waited_for() -> None:
    store = Store(failures=3)
    journal = journal_of(store)
    await journal.change(lambda run: replace(run, policy="new"))
    assert [run.policy for run in store.saved] == ["new"]
    assert journal.run.state is RunState.RUNNING


async def test_a_save_whose_caller_is_cancelled_never_overtakes_a_later_one() -> None:
    store = SlowStore()
    journal = journal_of(store)
    working = asyncio.create_task(journal.change(lambda run: replace(run, policy="older")))
    await asyncio.to_thread(store.begun.wait, 10)
    working.cancel()
    await journal.change(lambda run: replace(run, policy="newer"))
    assert [run.policy for run in store.saved] == ["older", "newer"]
    with pytest.raises(asyncio.CancelledError):
        await working


async def test_progress_is_saved_about_once_a_second_and_stages_at_once() -> None:
    store = Store()
    journal = journal_of(store)
    await journal.begin_stage(1, "refine", 100)
    for _ in range(50):
        await journal.advance(1, "refine", done=2, bad=0, usage=Usage(1, 1))
    assert len(store.saved) == 1
    await journal.end_stage(1, "refine")
    status = store.saved[-1].stage(1, "refine")
    assert (status.state, status.progress.done, status.usage) == (StageState.SUCCEEDED, 100, Usage(50, 50))


async def test_a_stage_that_begins_again_counts_anew_and_keeps_its_begin() -> None:
    journal = journal_of(Store())
    await journal.begin_stage(1, "refine", 10)
    first = journal.run.stage(1, "refine").start_time
    await journal.advance(1, "refine", done=10, bad=1, usage=Usage())
    await journal.begin_stage(1, "refine", 10)
    again = journal.run.stage(1, "refine")
    assert (again.progress.done, again.bad_rows, again.start_time) == (0, 0, first)


async def test_the_longest_wait_is_shown_until_all_are_over() -> None:
    journal = journal_of(Store())
    journal.wait("one", "RANKING_UNAVAILABLE", "first")
    journal.wait("two", "PLUGIN_UNAVAILABLE", "second")
    assert journal.run.waiting is not None and journal.run.waiting.message == "first"
    journal.go_on("one")
    assert journal.run.state is RunState.WAITING
    journal.go_on("two")
    assert journal.run.state is RunState.RUNNING and journal.run.waiting is None


async def test_every_change_wakes_those_who_hold_a_ticket() -> None:
    journal = journal_of(Store())
    ticket = journal.changed.ticket()
    await journal.set_metrics(1, {"nll": Metric(1.0)})
    assert ticket.is_set()
    assert not journal.changed.ticket().is_set()
