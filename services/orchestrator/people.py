"""Tasks that people do: leased, answered, edited, given back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from ilf_common.errors import InvalidArgumentError, NotFoundError, require
from ilf_common.rpc.pagination import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, decode_token, encode_token
from services.orchestrator.answering import check_annotator, checked_answer
from services.orchestrator.journal import Signal
from services.orchestrator.models import RunSpec
from services.orchestrator.ports import Clock, TaskStore
from services.orchestrator.service import RunService
from services.orchestrator.task_maker import TaskMaker
from services.orchestrator.tasks import NO_ANSWER, Answer, Task, TaskKind, TaskState, parent_run, parse_task_name

_MAX_LEASES = 100


@dataclass(frozen=True)
class TaskPage:
    """Some tasks.

    Attributes:
        specs: What their runs were asked to do, by run; empty where tasks are only shown.
        next_page_token: Where tasks are shown.
        done: How many tasks of the parent are done, whoever has them.
        total: How many there are.
    """

    tasks: Sequence[Task]
    specs: Mapping[str, RunSpec]
    next_page_token: str = ""
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Pace:
    """How many answers of all kinds a person has given: ever, in the last day, in the last hour."""

    answered: int = 0
    last_day: int = 0
    last_hour: int = 0


class _Change:
    """A change of a task that knows whether it changed anything."""

    def __init__(self, change: Callable[[Task], Task]) -> None:
        self._change = change
        self.happened = False

    def __call__(self, task: Task) -> Task:
        after = self._change(task)
        self.happened = after != task
        return after


class PeopleService:
    """The use cases of tasks."""

    def __init__(self, runs: RunService, tasks: TaskStore, maker: TaskMaker, clock: Clock, signal: Signal) -> None:
        self._runs = runs
        self._tasks = tasks
        self._maker = maker
        self._clock = clock
        self._signal = signal

    async def list_tasks(
        self, kind: TaskKind, parent: str, annotator: str, page_size: int, page_token: str
    ) -> TaskPage:
        """Leases tasks to an annotator, own leases first; without an annotator, shows all tasks and leases none."""
        run_id = await self._parent(parent)
        require(page_size >= 0, "page_size", f"must not be negative, is {page_size}")
        if annotator:
            check_annotator(annotator)
            tasks, token = await self._lease(kind, run_id, annotator, min(page_size or 1, _MAX_LEASES)), ""
        else:
            await self._make_some(kind, run_id, max(1, page_size))
            tasks, token = await self._show(kind, run_id, page_size, page_token)
        done, total = await self._tasks.progress(kind, run_id)
        return TaskPage(tasks, await self._specs(tasks) if annotator else {}, token, done, total)

    async def _parent(self, parent: str) -> str:
        """The id of a run that is there, "" for all runs."""
        run_id = parent_run(parent)
        if run_id is None:
            raise InvalidArgumentError.of("parent", f"must be runs/<id> or runs/-, is {parent[:100]!r}")
        if run_id:
            await self._runs.get(run_id)
        return run_id

    async def _lease(self, kind: TaskKind, run_id: str, annotator: str, limit: int) -> list[Task]:
        now = self._clock.now()
        leased = await self._tasks.renew(kind, run_id, annotator, limit=limit, now=now)
        for one in await self._offered(kind, run_id):
            while len(leased) < limit:
                seen = await self._tasks.progress(kind, one)
                leased += await self._tasks.lease(kind, one, annotator, limit=limit - len(leased), now=now)
                if len(leased) == limit or not await self._maker.make_more(kind, one, seen):
                    break
        return leased

    async def _offered(self, kind: TaskKind, run_id: str) -> Sequence[str]:
        """The runs whose tasks are to be done, in the order in which they are offered."""
        if run_id:
            return [run_id]
        if kind is TaskKind.FEEDBACK:
            # Nobody waits for the feedback of a run that has ended. Who has waited longest comes first.
            return [run.id for run in sorted(self._runs.live_runs(), key=lambda run: run.create_time)]
        return await self._runs.newest_ids()

    async def _make_some(self, kind: TaskKind, run_id: str, wanted: int) -> None:
        """Makes the tasks of a named run that is looked at before anybody has leased any."""
        while run_id:
            seen = await self._tasks.progress(kind, run_id)
            if seen[1] - seen[0] >= wanted or not await self._maker.make_more(kind, run_id, seen):
                return

    async def _show(self, kind: TaskKind, run_id: str, page_size: int, token: str) -> tuple[list[Task], str]:
        size = min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        after = decode_token(token) or ""
        require(not after or parse_task_name(kind, after) is not None, "page_token", "is of another list")
        found = await self._tasks.page(kind, run_id, after=after, limit=size + 1)
        return found[:size], encode_token(found[size - 1].name) if len(found) > size else ""

    async def submit(
        self, kind: TaskKind, name: str, annotator: str, answer: Answer, request_id: str = ""
    ) -> tuple[Task, RunSpec]:
        """Answers a task, or changes one's own answer; a repeat changes nothing, whatever was answered since.

        Raises:
            NotFoundError: TASK_NOT_FOUND.
            FailedPreconditionError: TASK_DONE, LEASE_TAKEN or LEASE_EXPIRED.
        """
        check_annotator(annotator)
        answer = checked_answer(kind, answer)
        ids, now = _ids(kind, name), self._clock.now()
        change = _Change(lambda task: task.answered(annotator, answer, now, request_id))
        return await self._outcome(_found(name, await self._tasks.change(kind, *ids, change)), annotator, change)

    async def skip(
        self, kind: TaskKind, name: str, annotator: str, flags: Sequence[str], request_id: str = ""
    ) -> tuple[Task, RunSpec]:
        """Gives a task back; this annotator will not see it again. A repeat changes nothing.

        Raises:
            NotFoundError: TASK_NOT_FOUND.
            FailedPreconditionError: TASK_DONE, LEASE_TAKEN or LEASE_EXPIRED.
        """
        check_annotator(annotator)
        require(not flags, "flags", "belong to an answer; a task that is skipped keeps none")
        ids, now = _ids(kind, name), self._clock.now()
        change = _Change(lambda task: task.given_back(annotator, now, request_id))
        skipped = await self._tasks.skip(kind, *ids, annotator, change)
        return await self._outcome(_found(name, skipped), annotator, change)

    async def _outcome(self, task: Task, annotator: str, change: _Change) -> tuple[Task, RunSpec]:
        """The task as this annotator is to see it: skipped where it was given back, whoever has it now."""
        if change.happened:
            self._signal.give()
        if task.annotator != annotator:
            task = replace(
                task,
                state=TaskState.SKIPPED,
                annotator=annotator,
                answer=NO_ANSWER,
                answer_time=None,
                lease_expire_time=None,
            )
        return task, (await self._runs.get(task.run_id)).spec

    async def answers(self, parent: str, annotator: str, page_size: int, page_token: str) -> TaskPage:
        """The annotator's own answers of all kinds, newest first."""
        run_id = await self._parent(parent)
        check_annotator(annotator)
        require(page_size >= 0, "page_size", f"must not be negative, is {page_size}")
        size = min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        found = await self._tasks.answered_by(annotator, run_id, before=_time(page_token), limit=size + 1)
        token = ""
        if len(found) > size and (last := found[size - 1].answer_time):
            token = encode_token(last.isoformat())
        return TaskPage(found[:size], await self._specs(found[:size]), token)

    async def progress(self, parent: str, annotator: str) -> tuple[dict[TaskKind, tuple[int, int]], Pace]:
        """Done and all of each kind, and how fast the annotator answers."""
        run_id = await self._parent(parent)
        counts = {kind: await self._tasks.progress(kind, run_id) for kind in TaskKind}
        if not annotator:
            return counts, Pace()
        check_annotator(annotator)
        now = self._clock.now()
        times = (None, now - timedelta(days=1), now - timedelta(hours=1))
        return counts, Pace(*[await self._tasks.count_answers(annotator, run_id, since=since) for since in times])

    async def _specs(self, tasks: Sequence[Task]) -> dict[str, RunSpec]:
        return {run_id: (await self._runs.get(run_id)).spec for run_id in {task.run_id for task in tasks}}


def _ids(kind: TaskKind, name: str) -> tuple[str, str]:
    ids = parse_task_name(kind, name)
    if ids is None:
        raise InvalidArgumentError.of("name", f"must be runs/<id>/{kind}Tasks/<task>, is {name[:100]!r}")
    return ids


def _found(name: str, task: Task | None) -> Task:
    if task is None:
        raise NotFoundError(
            f"There is no task {name}.", resource_type="task", resource_name=name, reason="TASK_NOT_FOUND"
        )
    return task


def _time(token: str) -> datetime | None:
    text = decode_token(token)
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if text is not None else None
    except ValueError as error:
        raise InvalidArgumentError.of("page_token", "is no token that an earlier page answered") from error
