"""Feedback by people: tasks for all items of an iteration, and the wait until they are answered."""

from __future__ import annotations

from functools import partial

from services.orchestrator.asking import feedback_tasks
from services.orchestrator.journal import wait_for
from services.orchestrator.rows import INPUT
from services.orchestrator.shards import StageKey, shard_count
from services.orchestrator.tasks import TaskKind
from services.orchestrator.work import RunWork

_LOOK_AGAIN_SECONDS = 30.0


async def ask_people(work: RunWork, iteration: int, rows: int, key: StageKey) -> None:
    """Makes the tasks that are missing and returns when all are answered; meanwhile the run is WAITING.

    The answers are final from then on. What waits is one coroutine: no thread, no connection, no lock.
    """
    for index in range(shard_count(rows, work.spec.shard_rows)):
        before = await work.load(iteration, index, (INPUT, "generate"))
        if await work.published(before, key, work.shard(iteration, "feedback", index)) is None:
            tasks = feedback_tasks(work.spec, work.shard(iteration, "feedback", index), before.rows)
            await work.patiently("database", partial(work.tasks.add, tasks))
    who = object()
    try:
        while True:
            ticket = work.task_signal.ticket()
            progress = partial(work.tasks.progress, TaskKind.FEEDBACK, work.run.id, iteration)
            done, total = await work.patiently("database", progress)
            if done == total:
                break
            work.journal.wait(who, "PEOPLE", f"{done} of {total} feedback tasks of iteration {iteration} are answered")
            await wait_for(ticket, _LOOK_AGAIN_SECONDS)
    finally:
        work.journal.go_on(who)
    await work.patiently("database", partial(work.tasks.close, work.run.id, iteration))


async def people_answers(work: RunWork, iteration: int, index: int) -> dict[str, list[str]]:
    """Feedback by item: what each person says, in the order of their names."""
    return await work.patiently("database", partial(work.tasks.answers, work.run.id, iteration, index))
