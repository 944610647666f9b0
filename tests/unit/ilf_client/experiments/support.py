"""Steps that need no services, and a task of two rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ilf_client import AsyncClient
from ilf_client.experiments.lab import Lab, Record, Shelf, Step
from ilf_client.experiments.task import Task
from ilf_common.errors import FailedPreconditionError, UnavailableError


@dataclass(frozen=True)
class FakeTask:
    """Only what a shelf asks for."""

    name: str = "fake"
    key: Mapping[str, Any] = field(default_factory=lambda: {"rows": 1})


MADE: list[str] = []


@dataclass(frozen=True)
class Base(Step):
    """What others rest on."""

    seed: int

    @property
    def title(self) -> str:
        return f"base {self.seed}"

    async def make(self, lab: Lab) -> Record:
        MADE.append(self.title)
        (lab.folder(self) / "file").write_text(str(self.seed))
        return {"seed": self.seed}


@dataclass(frozen=True)
class Measurement(Step):
    """Measures a base; `fault` says how it ends instead."""

    base: Base
    value: float
    fault: str = ""

    @property
    def title(self) -> str:
        return f"measure {self.value} on {self.base.title}"

    async def make(self, lab: Lab) -> Record:
        if self.fault == "own":
            raise FailedPreconditionError("This arm cannot be.", reason="NO")
        if self.fault == "service":
            raise UnavailableError("The service is away.")
        MADE.append(self.title)
        return {"values": {"m": [self.value + index % 2 for index in range(10)]}}


def fake_lab(folder: Path, models: Mapping[str, str] | None = None, task: FakeTask | None = None) -> Lab:
    """A lab without services."""
    shelf = Shelf(cast(Task, task or FakeTask()), models or {}, folder)
    return Lab(cast(AsyncClient, None), shelf, say=lambda line: None)
