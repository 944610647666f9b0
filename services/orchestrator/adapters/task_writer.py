"""One writer of tasks: what many people send at once goes into one transaction, and to the disk once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from ilf_common.errors import IlfError
from services.orchestrator.adapters.database import answering
from services.orchestrator.adapters.task_counts import Change, TaskCounts

MOST_TOGETHER = 64
"""Writes of one transaction at most."""

ResultT = TypeVar("ResultT")
Writing = Callable[..., tuple[ResultT, list[Change]]]
"""Reads and writes with a connection; answers its result and the tasks before and after. One that raises an IlfError
has written nothing yet."""


@dataclass(frozen=True)
class _Wish:
    writing: Writing[Any]
    arguments: tuple[object, ...]
    done: asyncio.Future[Any]


class TaskWriter:
    """Writes in the order in which the wishes come. This process is the only writer (see the fence)."""

    def __init__(self, engine: sa.Engine, counts: TaskCounts) -> None:
        self._engine = engine
        self._counts = counts
        self._thread = ThreadPoolExecutor(1, "task-writer")
        self._wishes: list[_Wish] = []
        self._work: asyncio.Task[None] | None = None

    async def write(self, writing: Writing[ResultT], *arguments: object) -> ResultT:
        """The result of a writing, once it is on the disk.

        Raises:
            IlfError: What the writing raises, or UnavailableError where the database does not answer.
        """
        wish = _Wish(writing, arguments, asyncio.get_running_loop().create_future())
        self._wishes.append(wish)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._fulfil())
        with answering():
            result: ResultT = await wish.done
        return result

    async def _fulfil(self) -> None:
        while self._wishes:
            wishes, self._wishes = self._wishes[:MOST_TOGETHER], self._wishes[MOST_TOGETHER:]
            try:
                loop = asyncio.get_running_loop()
                results = await loop.run_in_executor(self._thread, self._in_transaction, wishes)
            except Exception as error:
                results = [error] * len(wishes)
            for wish, result in zip(wishes, results, strict=True):
                # Who has gone away meanwhile hears nothing; what was written stays.
                if wish.done.done():
                    continue
                if isinstance(result, Exception):
                    wish.done.set_exception(result)
                else:
                    wish.done.set_result(result)

    def _in_transaction(self, wishes: Sequence[_Wish]) -> list[Any]:
        results: list[Any] = []
        changes: list[Change] = []
        try:
            with self._engine.begin() as connection:
                if not self._counts.known:
                    self._counts.load(connection)
                for wish in wishes:
                    try:
                        result, changed = wish.writing(connection, *wish.arguments)
                    except IlfError as error:
                        result, changed = error, []
                    results.append(result)
                    changes.extend(changed)
        except Exception:
            self._counts.forget()
            raise
        self._counts.note(changes)
        return results
