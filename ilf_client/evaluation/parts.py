"""Work that survives its process: every answer is on the disk when it has come, and none is asked for twice."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ilf_client.evaluation.files import as_json, digest_of, write_json
from ilf_client.files import new_file
from ilf_client.models.inference import Outcome
from ilf_common.errors import FailedPreconditionError, IlfError, InvalidArgumentError

PartT = TypeVar("PartT")
ResultT = TypeVar("ResultT")

Record = dict[str, Any]
"""What is kept of one answer, or `{"error": reason, "message": text}` where its item can never be answered."""

_PERMANENT = (InvalidArgumentError, FailedPreconditionError)
_PARTS_AHEAD = 4


class Item(Protocol):
    """What is asked for."""

    @property
    def item_id(self) -> str:
        """Unique in its stage."""


ItemT = TypeVar("ItemT", bound=Item)
Ask = Callable[[Sequence[ItemT]], AsyncIterator[tuple[str, Record]]]
"""Answers to items by id, in any order, as they come."""


class Stage:
    """The answers to one kind of question, in a folder that is named by the digest of all that determines them.

    A part in work is a journal to which each answer is appended; a finished part is one file, in the items' order.
    Both are named by the digest of their items as well, so that changed items are new items.

    Args:
        folder: Where stages lie.
        name: For people.
        key: All that determines an answer beside its item: model versions, templates, settings, seeds.
    """

    def __init__(self, folder: Path, name: str, key: Mapping[str, Any]) -> None:
        self._folder = folder / f"{name}-{digest_of(key)[:16]}"
        self._key = key

    async def part(self, index: int, items: Sequence[ItemT], ask: Ask[ItemT]) -> dict[str, Record]:
        """The answers to the items of one part by id, in their order; only what is missing is asked for.

        Raises:
            IlfError: What `ask` raises; answers that came before it stay.
        """
        if not items:
            return {}
        finished = self._folder / f"part-{index:05d}-{digest_of(list(items))[:16]}.jsonl"
        if finished.is_file():
            return dict(_records(finished))
        if not self._folder.is_dir():
            write_json(self._folder / "KEY.json", self._key)
        journal = finished.with_suffix(".journal")
        found = dict(_whole_records(journal)) if journal.is_file() else {}
        missing = [item for item in items if item.item_id not in found]
        if missing:
            with journal.open("ab", buffering=0) as log:
                async for item_id, record in ask(missing):
                    log.write(_line(item_id, record).encode())
                    found[item_id] = record
        records = {item.item_id: found[item.item_id] for item in items}
        with new_file(finished) as stream:
            stream.writelines(_line(item_id, record) for item_id, record in records.items())
        journal.unlink(missing_ok=True)
        return records


async def answers(
    outcomes: AsyncIterator[Outcome[ResultT]], record: Callable[[ResultT], Record]
) -> AsyncIterator[tuple[str, Record]]:
    """Outcomes of a batch call as answers.

    Raises:
        IlfError: At the end, where an item failed in a way that another attempt may mend.
    """
    passing: IlfError | None = None
    async for outcome in outcomes:
        if outcome.error is None:
            yield outcome.item_id, record(outcome.unwrap())
        elif isinstance(outcome.error, _PERMANENT):
            yield outcome.item_id, {"error": outcome.error.reason, "message": outcome.error.message}
        else:
            passing = outcome.error
    if passing is not None:
        raise passing


def failure_of(record: Record) -> str:
    """Why an item has no answer: its reason, or what is wrong where the reason says only that a field is."""
    return str(record["message"] if record["error"] == InvalidArgumentError.default_reason else record["error"])


async def in_order(
    parts: Iterable[PartT], work: Callable[[PartT], Awaitable[ResultT]], ahead: int = _PARTS_AHEAD
) -> AsyncGenerator[ResultT, None]:
    """Results of all parts in their order, a few of them in work at a time; closing it ends those in work."""
    tasks: deque[asyncio.Task[ResultT]] = deque()

    async def run(part: PartT) -> ResultT:
        return await work(part)

    try:
        for part in parts:
            tasks.append(asyncio.create_task(run(part)))
            if len(tasks) >= ahead:
                yield await tasks.popleft()
        while tasks:
            yield await tasks.popleft()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _line(item_id: str, record: Record) -> str:
    return json.dumps({"id": item_id, **as_json(record)}, ensure_ascii=False) + "\n"


def _records(path: Path) -> Iterator[tuple[str, Record]]:
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            record = json.loads(line)
            yield record.pop("id"), record


def _whole_records(journal: Path) -> Iterator[tuple[str, Record]]:
    """The records of a journal; a line that was cut by the end of its process is taken off first."""
    content = journal.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with journal.open("r+b") as stream:
            stream.truncate(len(whole))
    yield from _records(journal)
