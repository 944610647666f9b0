"""Tasks on SQLite: who gets which, many writes at once, and counts that stay true."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from ilf_common.errors import FailedPreconditionError, UnavailableError
from services.orchestrator.adapters.database import TASKS, open_database, prepare_database
from services.orchestrator.adapters.sql_tasks import SqlTaskStore
from services.orchestrator.tasks import Answer, Task, TaskKind, TaskState

KIND = TaskKind.FEEDBACK
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def tasks_of(items: int, slots: int = 1) -> list[Task]:
    return [
        Task(KIND, "toy", f"001-00000-{item:04d}-{slot:02d}", f"001-00000-{item:04d}", 1, 0, f"item-{item}", "c", "x0")
        for item in range(items)
        for slot in range(slots)
    ]


def answered(annotator: str, text: str = "Shorter.", request_id: str = "") -> Callable[[Task], Task]:
    return lambda task: task.answered(annotator, Answer(text), NOW, request_id)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[sa.Engine]:
    opened = open_database(f"sqlite:///{tmp_path / 'tasks.db'}")
    await prepare_database(opened, 5)
    yield opened
    opened.dispose()


@pytest.fixture
def store(engine: sa.Engine) -> SqlTaskStore:
    return SqlTaskStore(engine)


async def lease(store: SqlTaskStore, annotator: str, limit: int = 1, now: datetime = NOW) -> list[str]:
    return [task.id for task in await store.lease(KIND, "toy", annotator, limit=limit, now=now)]


async def test_two_slots_of_an_item_never_go_to_the_same_person(store: SqlTaskStore) -> None:
    await store.add(tasks_of(3, slots=2))
    first, second = await lease(store, "ann", 10), await lease(store, "bob", 10)
    assert [len({task.rsplit("-", 1)[0] for task in leased}) for leased in (first, second)] == [3, 3]
    assert not set(first) & set(second)
    assert await lease(store, "ann") == [] and await lease(store, "cid") == []


async def test_people_go_on_where_they_stopped_and_come_back_for_what_others_left(store: SqlTaskStore) -> None:
    await store.add(tasks_of(4))
    [first] = await lease(store, "bob")
    [second] = await lease(store, "ann")
    await store.change(KIND, "toy", second, answered("ann"))
    await store.skip(KIND, "toy", first, "bob", lambda task: task.given_back("bob", NOW))
    assert await lease(store, "ann", 2) == ["001-00000-0002-00", "001-00000-0003-00"]
    assert await lease(store, "ann", 2) == [first]
    assert await lease(store, "bob") == []


async def test_an_expired_lease_is_free_for_others(store: SqlTaskStore) -> None:
    await store.add(tasks_of(1))
    [task] = await lease(store, "ann")
    assert await lease(store, "bob") == []
    assert await lease(store, "bob", now=NOW + timedelta(minutes=15)) == [task]


async def test_a_hundred_people_at_once_get_different_tasks_and_all_answers_count(store: SqlTaskStore) -> None:
    await store.add(tasks_of(100))
    leased = await asyncio.gather(*(lease(store, f"person-{number}") for number in range(100)))
    assert len({task for tasks in leased for task in tasks}) == 100
    await asyncio.gather(*(store.change(KIND, "toy", task, answered(f"person-{n}")) for n, [task] in enumerate(leased)))
    assert await store.progress(KIND, "toy") == (100, 100)
    assert await store.progress(KIND, "toy", 2) == (0, 0)


async def test_a_refusal_among_many_writes_is_its_own(store: SqlTaskStore) -> None:
    await store.add(tasks_of(3))
    leased = await lease(store, "ann", 3)
    outcomes = await asyncio.gather(
        store.change(KIND, "toy", leased[0], answered("ann")),
        store.change(KIND, "toy", leased[1], answered("bob")),
        store.change(KIND, "toy", leased[2], answered("ann")),
        store.change(KIND, "toy", "001-00000-0009-00", answered("ann")),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], FailedPreconditionError) and outcomes[1].reason == "LEASE_TAKEN"
    assert [isinstance(outcome, Task) for outcome in outcomes] == [True, False, True, False]
    assert outcomes[3] is None and await store.progress(KIND, "toy") == (2, 3)


async def test_who_goes_away_while_an_answer_is_written_leaves_it_and_the_counts_whole(store: SqlTaskStore) -> None:
    await store.add(tasks_of(1))
    [task] = await lease(store, "ann")
    writing = asyncio.create_task(store.change(KIND, "toy", task, answered("ann")))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    found = await store.skip(KIND, "toy", task, "bob", lambda task: task)
    assert found is not None and (found.state, found.answer) == (TaskState.DONE, Answer("Shorter."))
    assert await store.progress(KIND, "toy") == (1, 1)


async def test_the_same_answer_again_writes_nothing(store: SqlTaskStore) -> None:
    await store.add(tasks_of(1))
    [task] = await lease(store, "ann")
    first = await store.change(KIND, "toy", task, answered("ann"))
    assert await store.change(KIND, "toy", task, answered("ann")) == first
    await store.change(KIND, "toy", task, answered("ann", "Kinder."))
    assert await store.answers("toy", 1, 0) == {"item-0": ["Kinder."]}
    assert await store.progress(KIND, "toy") == (1, 1)


async def test_a_skip_that_is_a_repeat_of_an_answer_keeps_the_group(store: SqlTaskStore) -> None:
    await store.add(tasks_of(1))
    [task] = await lease(store, "ann")
    done = await store.change(KIND, "toy", task, answered("ann", request_id="id-1"))
    assert await store.skip(KIND, "toy", task, "ann", lambda task: task.given_back("ann", NOW, "id-1")) == done
    assert await store.progress(KIND, "toy") == (1, 1)
    await store.skip(KIND, "toy", task, "ann", lambda task: task.given_back("ann", NOW, "id-2"))
    assert await store.progress(KIND, "toy") == (0, 1) and await lease(store, "ann") == []


async def test_a_database_that_fails_is_said_and_the_rows_are_counted_again(
    store: SqlTaskStore, engine: sa.Engine
) -> None:
    await store.add(tasks_of(2))
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE orchestrator_tasks RENAME TO away"))
    with pytest.raises(UnavailableError):
        await store.change(KIND, "toy", "001-00000-0000-00", answered("ann"))
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE away RENAME TO orchestrator_tasks"))
        connection.execute(TASKS.update().where(TASKS.c.id == "001-00000-0000-00").values(state=TaskState.DONE.value))
    assert await store.progress(KIND, "toy") == (1, 2)
