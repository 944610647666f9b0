from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from ilf_common.errors import (
    InternalError,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)
from services.orchestrator.calls import Item, Outcome
from services.orchestrator.journal import Journal
from services.orchestrator.models import RunSpec
from services.orchestrator.run import Run, RunState
from services.orchestrator.waiting import calls_of, collect, patiently


@dataclass
class FakeClock:
    """Time that passes only when somebody sleeps."""

    time: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    pauses: list[float] = field(default_factory=list)

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.time += timedelta(seconds=seconds)


class NoStore:
    """Takes a run and forgets it."""

    async def save(self, run: Run) -> None:
        del run


@dataclass
class Service:
    """Fails as told, then answers."""

    journal: Journal
    errors: list[Exception]
    seen: list[tuple[str, str]] = field(default_factory=list)

    async def call(self) -> str:
        waiting = self.journal.run.waiting
        self.seen.append((self.journal.run.state.value, waiting.reason if waiting else ""))
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def journal_of(clock: FakeClock) -> Journal:
    run = Run("a", RunSpec(), RunState.RUNNING, clock.now())
    return Journal(run, NoStore(), clock)  # type: ignore[arg-type]


async def test_a_service_that_is_down_is_waited_for_and_the_run_says_so() -> None:
    clock = FakeClock()
    service = Service(journal_of(clock), [UnavailableError("gone")] * 10)
    assert await patiently(service.journal, clock, "ranking", service.call) == "answer"
    assert service.seen[0] == ("RUN_STATE_RUNNING", "")
    assert set(service.seen[1:]) == {("RUN_STATE_WAITING", "RANKING_UNAVAILABLE")}
    assert service.journal.run.state is RunState.RUNNING
    assert service.journal.run.waiting is None
    assert clock.pauses[:3] == [0.2, 0.4, 0.8] and max(clock.pauses) == 10.0


async def test_a_token_that_is_being_changed_is_waited_for() -> None:
    clock = FakeClock()
    service = Service(journal_of(clock), [UnauthenticatedError("wants a valid token", reason="TOKEN_INVALID")] * 3)
    assert await patiently(service.journal, clock, "refinement", service.call) == "answer"
    assert service.seen[-1] == ("RUN_STATE_WAITING", "REFINEMENT_UNAVAILABLE")


async def test_a_refusal_is_raised_at_once() -> None:
    clock = FakeClock()
    service = Service(journal_of(clock), [InvalidArgumentError.of("n", "is 0")])
    with pytest.raises(InvalidArgumentError):
        await patiently(service.journal, clock, "ranking", service.call)
    assert clock.pauses == []


async def test_a_full_queue_is_no_fault_at_first_and_its_pause_is_kept() -> None:
    clock = FakeClock()
    service = Service(journal_of(clock), [ResourceExhaustedError("full", retry_after=3.0)])
    await patiently(service.journal, clock, "refinement", service.call)
    assert service.seen[1] == ("RUN_STATE_RUNNING", "")
    assert clock.pauses == [3.0]


async def test_an_inner_fault_is_tried_three_times() -> None:
    clock = FakeClock()
    service = Service(journal_of(clock), [InternalError("oops")] * 3)
    with pytest.raises(InternalError):
        await patiently(service.journal, clock, "refinement", service.call)
    assert len(service.seen) == 3
    service = Service(journal_of(clock), [InternalError("oops")] * 2)
    assert await patiently(service.journal, clock, "refinement", service.call) == "answer"


async def stream(*messages: list[Outcome[int]]) -> AsyncIterator[list[Outcome[int]]]:
    for message in messages:
        yield message


ITEMS = [Item("a", "c"), Item("b", "c")]


async def test_outcomes_are_collected_by_item() -> None:
    failed: Outcome[int] = Outcome("b", error=InvalidArgumentError.of("context", "is too long"))
    found = await collect(stream([Outcome("a", 1)], [failed]), ITEMS)
    assert found["a"].result == 1 and found["b"] is failed


async def test_a_stream_that_ends_early_or_an_item_that_may_pass_repeats_the_call() -> None:
    with pytest.raises(UnavailableError, match="1 of 2"):
        await collect(stream([Outcome("a", 1)]), ITEMS)
    with pytest.raises(UnavailableError, match="gone"):
        await collect(stream([Outcome("a", error=UnavailableError("gone"))]), ITEMS)


def test_long_texts_travel_in_several_calls_in_order() -> None:
    items = [Item(str(n), "x" * 3_000_000) for n in range(5)]
    calls = calls_of(items)
    assert [len(call) for call in calls] == [2, 2, 1]
    assert [item for call in calls for item in call] == items
    assert calls_of([]) == []
