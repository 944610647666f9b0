"""Tasks that people do: leased, answered, edited, given back."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta

from ilf_common.errors import InvalidArgumentError, NotFoundError, require
from ilf_common.rpc.pagination import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, decode_token, encode_token
from services.orchestrator.browse import sample_rows
from services.orchestrator.journal import Signal
from services.orchestrator.ports import Clock, ShardStore, TaskStore
from services.orchestrator.rows import INPUT, Row
from services.orchestrator.run import Run
from services.orchestrator.seeds import item_seed
from services.orchestrator.service import RunService
from services.orchestrator.shards import ShardId
from services.orchestrator.stages.feedback import MAX_FEEDBACK
from services.orchestrator.tasks import Task, TaskKind, TaskState, parent_run, parse_task_name

PREFERENCES = ("PREFERENCE_A", "PREFERENCE_B", "PREFERENCE_TIE")
_DEFAULT_LEASE = 15 * 60.0
_MAX_LEASES = 100


class PeopleService:
    """The use cases of tasks."""

    def __init__(self, runs: RunService, tasks: TaskStore, shards: ShardStore, clock: Clock, signal: Signal) -> None:
        self._runs = runs
        self._tasks = tasks
        self._shards = shards
        self._clock = clock
        self._signal = signal

    async def list_tasks(
        self, kind: TaskKind, parent: str, annotator: str, page_size: int, page_token: str
    ) -> tuple[list[Task], str, tuple[int, int]]:
        """Leases tasks to an annotator, own leases first; without an annotator, shows all tasks and leases none.

        Returns:
            The tasks, the token of the next page (when showing), and how many are done of how many.
        """
        run_id = parent_run(parent)
        if run_id is None:
            raise InvalidArgumentError.of("parent", f"must be runs/<id> or runs/-, is {parent!r}")
        require(page_size >= 0, "page_size", f"must not be negative, is {page_size}")
        run = await self._runs.get(run_id) if run_id else None
        if kind is TaskKind.COMPARISON and run is not None:
            await self._make_comparisons(run, wanted=max(1, page_size))
        if annotator:
            tasks, token = await self._lease(kind, run, annotator, min(page_size or 1, _MAX_LEASES)), ""
        else:
            tasks, token = await self._show(kind, run_id, page_size, page_token)
        return tasks, token, await self._tasks.progress(kind, run_id)

    async def _lease(self, kind: TaskKind, run: Run | None, annotator: str, limit: int) -> list[Task]:
        require(len(annotator) <= 128, "annotator", "must have at most 128 characters")
        now = self._clock.now()
        seconds = run.spec.feedback.lease if run and run.spec.feedback.lease else _DEFAULT_LEASE
        expires = now + timedelta(seconds=seconds)
        return await self._tasks.lease(kind, run.id if run else "", annotator, limit=limit, now=now, expires=expires)

    async def _show(self, kind: TaskKind, run_id: str, page_size: int, token: str) -> tuple[list[Task], str]:
        size = min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        found = await self._tasks.page(kind, run_id, after=decode_token(token) or "", limit=size + 1)
        return found[:size], encode_token(found[size - 1].name) if len(found) > size else ""

    async def submit(self, kind: TaskKind, name: str, annotator: str, answer: str, *, skip: bool) -> Task:
        """Answers a task, changes one's own answer, or gives the task back; a repeat changes nothing.

        Raises:
            NotFoundError: TASK_NOT_FOUND.
            FailedPreconditionError: TASK_DONE, LEASE_TAKEN or LEASE_EXPIRED.
        """
        require(bool(annotator), "annotator", "is missing")
        if not skip:
            _check_answer(kind, answer)
        task = await self._get(kind, name)
        now = self._clock.now()
        if skip:
            given_back = task.given_back(annotator, now)
            await self._tasks.skip(given_back, annotator)
            return replace(given_back, state=TaskState.SKIPPED, annotator=annotator)
        done = task.answered(annotator, answer, now)
        await self._tasks.save(done)
        self._signal.give()
        return done

    async def _get(self, kind: TaskKind, name: str) -> Task:
        ids = parse_task_name(kind, name)
        if ids is None:
            raise InvalidArgumentError.of("name", f"must be runs/<id>/{kind}Tasks/<task>, is {name!r}")
        task = await self._tasks.get(kind, *ids)
        if task is None:
            raise NotFoundError(
                f"There is no task {name}.", resource_type="task", resource_name=name, reason="TASK_NOT_FOUND"
            )
        return task

    async def _make_comparisons(self, run: Run, wanted: int) -> None:
        """Makes comparison tasks of the next shards that have samples, until enough are open."""
        done, total = await self._tasks.progress(TaskKind.COMPARISON, run.id)
        for iteration in range(1, run.spec.iterations + 1):
            made = await self._tasks.imported_shards(run.id, iteration)
            index = 0
            while total - done < wanted:
                rows = await sample_rows(self._shards, ShardId(run.id, iteration, INPUT, index))
                if not rows or not any(row.scores or row.failure for row in rows):
                    break
                if index not in made:
                    tasks = _comparisons(run, iteration, index, rows)
                    await self._tasks.add(tasks)
                    total += len(tasks)
                index += 1


def _check_answer(kind: TaskKind, answer: str) -> None:
    if kind is TaskKind.COMPARISON:
        require(answer in PREFERENCES, "preference", f"must be one of {', '.join(PREFERENCES)}")
        return
    require(bool(answer.strip()), "feedback", "is empty; set skip to give the task back")
    require(len(answer) <= MAX_FEEDBACK, "feedback", f"must have at most {MAX_FEEDBACK} characters")


def _comparisons(run: Run, iteration: int, index: int, rows: list[Row]) -> list[Task]:
    """One pair an item: the chosen refinement and another one, in an order that the run's seed decides."""
    tasks = []
    for position, row in enumerate(rows):
        texts = list(dict.fromkeys(row.refinements))
        if row.failure is not None or len(texts) < 2:
            continue
        draw = item_seed(run.spec.seed, iteration, "compare", row.item_id)
        chosen = row.refinements[max(row.chosen_index, 0)]
        other = [text for text in texts if text != chosen][draw // 2 % (len(texts) - 1)]
        first, second = (chosen, other) if draw % 2 else (other, chosen)
        group = f"{iteration:03d}-{index:05d}-{position:04d}"
        tasks.append(
            Task(
                kind=TaskKind.COMPARISON,
                run_id=run.id,
                id=f"{group}-{hashlib.sha256(row.item_id.encode()).hexdigest()[:6]}",
                group=group,
                iteration=iteration,
                shard=index,
                item_id=row.item_id,
                context=row.context,
                text_a=first,
                text_b=second,
            )
        )
    return tasks
