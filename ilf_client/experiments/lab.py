"""Where steps are made, each once: a step is found again by the digest of everything that determines it."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ilf_client.evaluation.files import as_json, digest_of, write_json
from ilf_client.experiments.task import Task

if TYPE_CHECKING:
    from ilf_client.aio.client import AsyncClient

Record = dict[str, Any]
"""What a step leaves behind, as JSON types; files lie in its folder."""

Say = Callable[[str], None]
_RECORD = "RECORD.json"


class Step(ABC):
    """Something that is made once. Subclasses are frozen dataclasses; their fields, steps among them, determine it."""

    VERSION: ClassVar[int] = 1
    """Raised by hand when the step is made in another way."""

    @property
    @abstractmethod
    def title(self) -> str:
        """For people."""

    @abstractmethod
    async def make(self, lab: Lab) -> Record:
        """Makes it; a repeat after any end goes on where it can."""

    @property
    def needs(self) -> Sequence[Step]:
        """The steps that it uses."""
        return [value for value in self._values().values() if isinstance(value, Step)]

    @property
    def key(self) -> dict[str, Any]:
        """What determines it."""
        given = {
            name: value.key if isinstance(value, Step) else as_json(value) for name, value in self._values().items()
        }
        return {"step": type(self).__name__, "version": self.VERSION, **given}

    def _values(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]


class Shelf:
    """The finished steps of a folder.

    Args:
        task: What they are made for.
        models: Digest of each served model that the task uses, by name.
        folder: Where they lie.
    """

    def __init__(self, task: Task, models: Mapping[str, str], folder: Path) -> None:
        self.task = task
        self._shared = {"task": as_json(task.key), "models": dict(models)}
        self._folder = folder

    def digest(self, step: Step) -> str:
        """sha256 of all that determines a step."""
        return digest_of({**self._shared, "key": step.key})

    def folder(self, step: Step) -> Path:
        """Where a step's files lie."""
        return self._folder / f"{type(step).__name__}-{self.digest(step)[:16]}"

    def find(self, step: Step) -> Record | None:
        """What a finished step has left; None where it is not finished."""
        file = self.folder(step) / _RECORD
        if not file.is_file():
            return None
        record: Record = json.loads(file.read_text(encoding="utf-8"))
        return record

    def put(self, step: Step, record: Record) -> None:
        """Notes that a step is finished, whole or not at all."""
        write_json(self.folder(step) / _RECORD, {**record, "key": step.key})


class Lab:
    """Makes steps over the services.

    Args:
        client: The services.
        shelf: What is finished.
        feedback_address: Where the task's feedback program is served; empty where it has none.
        say: Is told what is made.
    """

    def __init__(self, client: AsyncClient, shelf: Shelf, *, feedback_address: str = "", say: Say = print) -> None:
        self.client = client
        self.shelf = shelf
        self.task = shelf.task
        self.feedback_address = feedback_address
        self._say = say
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def get(self, step: Step) -> Record:
        """The record of a step; what it needs is made first, and nothing twice."""
        async with self.lock(self.shelf.digest(step)):
            found = self.shelf.find(step)
            if found is not None:
                return found
            for needed in step.needs:
                await self.get(needed)
            self.folder(step).mkdir(parents=True, exist_ok=True)
            self._say(step.title)
            began = time.monotonic()
            record = await step.make(self)
            self.shelf.put(step, {**record, "seconds": round(time.monotonic() - began, 1)})
            return record

    def lock(self, name: str) -> asyncio.Lock:
        """The lock of something that arms which run side by side share."""
        return self._locks[name]

    def folder(self, step: Step) -> Path:
        """A step's own folder."""
        return self.shelf.folder(step)

    def name(self, step: Step) -> str:
        """A name for what a step makes on the services: the same at every attempt."""
        return f"exp-{self.shelf.digest(step)[:20]}"

    def request_id(self, step: Step, attempt: int = 0) -> str:
        """The id of a step's call, so that a repeat after a crash is recognised."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"ilf/experiments/{self.shelf.digest(step)}/{attempt}"))


def all_steps(steps: Sequence[Step]) -> list[Step]:
    """The steps with all that they need, each once, in an order in which they can be made."""
    found: dict[Step, None] = {}

    def visit(step: Step) -> None:
        for needed in step.needs:
            visit(needed)
        found[step] = None

    for step in steps:
        visit(step)
    return list(found)
