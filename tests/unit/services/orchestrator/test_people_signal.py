"""Who waits for people is woken by what they change, and by no repeat."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from services.orchestrator.adapters.database import open_database, prepare_database
from services.orchestrator.adapters.sql_tasks import SqlTaskStore
from services.orchestrator.journal import Signal
from services.orchestrator.models import RunSpec
from services.orchestrator.people import PeopleService
from services.orchestrator.tasks import Answer, Task, TaskKind

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KIND = TaskKind.FEEDBACK
TASK = Task(KIND, "toy", "001-00000-0000-00", "001-00000-0000", 1, 0, "item-0", "c", "x0")


class OneRun:
    async def get(self, run_id: str) -> Any:
        return SimpleNamespace(spec=RunSpec())


async def test_a_repeat_wakes_nobody(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'tasks.db'}")
    await prepare_database(engine, 5)
    store, signal = SqlTaskStore(engine), Signal()
    await store.add([TASK.leased_to("ann", NOW)])
    people = PeopleService(
        cast(Any, OneRun()), store, cast(Any, None), cast(Any, SimpleNamespace(now=lambda: NOW)), signal
    )
    woken = []
    for text, request_id in (("one", "id-1"), ("two", "id-2"), ("one", "id-1")):
        ticket = signal.ticket()
        task, _ = await people.submit(KIND, TASK.name, "ann", Answer(text), request_id)
        woken.append((task.answer.text, ticket.is_set()))
    for _ in range(2):
        ticket = signal.ticket()
        task, _ = await people.skip(KIND, TASK.name, "ann", (), "id-3")
        woken.append((task.state.value, ticket.is_set()))
    engine.dispose()
    assert woken == [
        ("one", True),
        ("two", True),
        ("two", False),
        ("TASK_STATE_SKIPPED", True),
        ("TASK_STATE_SKIPPED", False),
    ]
