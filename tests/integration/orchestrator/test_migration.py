"""Databases of earlier releases are brought up to date when the orchestrator opens them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from services.orchestrator.adapters.database import open_database, prepare_database
from services.orchestrator.adapters.sql_tasks import SqlTaskStore
from services.orchestrator.settings import OrchestratorSettings
from services.orchestrator.tasks import Answer, Task, TaskKind, TaskState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIRST_RELEASE = (
    """
    CREATE TABLE orchestrator_tasks (
        kind VARCHAR(20) NOT NULL, run_id VARCHAR(63) NOT NULL, id VARCHAR(40) NOT NULL,
        task_group VARCHAR(40) NOT NULL, iteration INTEGER NOT NULL, shard INTEGER NOT NULL, item_id TEXT NOT NULL,
        context TEXT NOT NULL, text_a TEXT NOT NULL, text_b TEXT NOT NULL, state VARCHAR(30) NOT NULL,
        annotator VARCHAR(128) NOT NULL, lease_expires FLOAT, answer TEXT NOT NULL, closed BOOLEAN NOT NULL,
        PRIMARY KEY (kind, run_id, id)
    )
    """,
    "CREATE INDEX orchestrator_tasks_open ON orchestrator_tasks (kind, closed, state, run_id, id)",
    """
    INSERT INTO orchestrator_tasks VALUES (
        'feedback', 'old', '001-00000-0000-00', '001-00000-0000', 1, 0, 'a', 'c', 'x0', '', 'TASK_STATE_DONE', 'ann',
        NULL, 'Shorter.', false
    )
    """,
)


def settings_of(folder: Path, url: str | None) -> OrchestratorSettings:
    return OrchestratorSettings(state_dir=folder, database_url=url)


def with_a_database_of_its_own(url: str) -> str:
    """The URL of a new database on the same server."""
    name = f"old_{uuid.uuid4().hex[:8]}"
    server = sa.create_engine(
        settings_of(Path(), url).resolved_database_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
    )
    with server.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    return f"{url.rsplit('/', 1)[0]}/{name}"


async def test_tasks_of_the_first_release_are_there_and_may_be_changed(
    tmp_path: Path, database_url: str | None
) -> None:
    url = with_a_database_of_its_own(database_url) if database_url else None
    engine = open_database(settings_of(tmp_path, url).resolved_database_url)
    with engine.begin() as connection:
        for statement in FIRST_RELEASE:
            connection.execute(sa.text(statement))
    await prepare_database(engine, 10)
    await prepare_database(engine, 10)

    tasks = SqlTaskStore(engine)
    [task] = await tasks.page(TaskKind.FEEDBACK, "old", after="", limit=10)
    assert (task.state, task.answer, task.answer_time) == (TaskState.DONE, Answer("Shorter."), None)
    assert (task.lease_seconds, task.candidate_a, task.feedback) == (900.0, -1, "")
    assert await tasks.progress(TaskKind.FEEDBACK, "old") == (1, 1)
    await check_that_repeats_are_known(tasks, task)
    assert [one.name for one in await tasks.answered_by("ann", "", before=None, limit=10)] == [task.name]
    indexes = {index["name"] for index in sa.inspect(engine).get_indexes("orchestrator_tasks")}
    assert {"orchestrator_tasks_annotator", "orchestrator_tasks_answered", "orchestrator_tasks_open"} <= indexes
    engine.dispose()


async def test_tasks_of_a_release_that_kept_no_request_ids_are_there(tmp_path: Path, database_url: str | None) -> None:
    url = with_a_database_of_its_own(database_url) if database_url else None
    engine = open_database(settings_of(tmp_path, url).resolved_database_url)
    await prepare_database(engine, 10)
    asked = Task(TaskKind.FEEDBACK, "old", "001-00000-0000-00", "001-00000-0000", 1, 0, "a", "c", "x0")
    tasks = SqlTaskStore(engine)
    await tasks.add([asked.leased_to("ann", NOW).answered("ann", Answer("Shorter."), NOW)])
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE orchestrator_tasks DROP COLUMN requests"))
    engine.dispose()

    await prepare_database(engine, 10)
    tasks = SqlTaskStore(engine)
    task = await tasks.get(TaskKind.FEEDBACK, "old", asked.id)
    assert task is not None and (task.answer, task.answer_time, task.requests) == (Answer("Shorter."), NOW, ())
    await check_that_repeats_are_known(tasks, task)
    engine.dispose()


async def check_that_repeats_are_known(tasks: SqlTaskStore, task: Task) -> None:
    async def answer(text: str, request_id: str) -> Task | None:
        ids = (task.kind, task.run_id, task.id)
        return await tasks.change(*ids, lambda task: task.answered("ann", Answer(text), NOW, request_id))

    await answer("Kinder.", "id-1")
    edited = await answer("Longer.", "id-2")
    assert await answer("Kinder.", "id-1") == edited == await tasks.get(task.kind, task.run_id, task.id)
    assert edited is not None and edited.answer == Answer("Longer.")
