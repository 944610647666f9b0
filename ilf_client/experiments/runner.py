"""Makes what a study declares, and gathers what it measured; what is finished is never made again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ilf_client.evaluation.files import write_json
from ilf_client.evaluation.parts import in_order
from ilf_client.experiments.lab import Lab, Record, Shelf, all_steps
from ilf_client.experiments.study import Arm, Measured, Study
from ilf_client.experiments.task import Task
from ilf_common.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError

if TYPE_CHECKING:
    from ilf_client.aio.client import AsyncClient

MODELS = "models.json"
# What is wrong with one arm and no other; a service that is away is wrong with all of them.
_ONE_ARMS = (InvalidArgumentError, FailedPreconditionError, NotFoundError)


@dataclass(frozen=True)
class Results:
    """What is known of a study.

    Attributes:
        measured: Values by metric, row and seed.
        missing: Arms without a result.
        failures: Why arms have none, as far as known: row, seed and reason.
        seconds: How long the making of the steps took that the results rest on.
    """

    measured: Measured
    missing: Sequence[Arm]
    failures: Sequence[str] = ()
    seconds: float = 0.0


@dataclass
class _Gathered:
    measured: dict[str, dict[str, dict[int, Sequence[float]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )

    def add(self, arm: Arm, record: Record) -> None:
        for metric, values in record["values"].items():
            self.measured[metric][arm.row][arm.seed] = values


async def run_study(lab: Lab, study: Study, parallel: int = 1) -> Results:
    """Runs all arms that have no result yet.

    An arm that cannot be run leaves the others alone, and its reason behind.

    Args:
        lab: Where they are made.
        study: What is declared.
        parallel: How many arms are in work at a time.

    Raises:
        IlfError: A service failed in a way that another attempt may mend; a repeat goes on from there.
    """

    async def one(arm: Arm) -> str:
        try:
            await lab.get(arm.step)
        except _ONE_ARMS as error:
            return f"{arm.row}, seed {arm.seed}: {error.message}"
        return ""

    failures = [failure async for failure in in_order(study.arms, one, parallel) if failure]
    found = gathered(lab.shelf, study)
    return Results(found.measured, found.missing, failures, found.seconds)


def gathered(shelf: Shelf, study: Study) -> Results:
    """What the finished arms of a study have measured; nothing is run."""
    collected = _Gathered()
    missing = []
    for arm in study.arms:
        record = shelf.find(arm.step)
        if record is None:
            missing.append(arm)
        else:
            collected.add(arm, record)
    steps = all_steps([arm.step for arm in study.arms])
    seconds = sum(float((shelf.find(step) or {}).get("seconds", 0.0)) for step in steps)
    return Results(collected.measured, missing, seconds=seconds)


def plan(shelf: Shelf, studies: Sequence[Study]) -> list[tuple[str, str, bool]]:
    """Every step of some studies, each once: its kind, its title, and whether it is finished."""
    steps = all_steps([arm.step for study in studies for arm in study.arms])
    return [(type(step).__name__, step.title, shelf.find(step) is not None) for step in steps]


async def served_models(client: AsyncClient, task: Task) -> dict[str, str]:
    """Digests of the served models that a task's run names.

    Raises:
        NotFoundError: reason MODEL_NOT_FOUND; one is not served.
    """
    spec = task.spec()
    names = sorted({spec.policy, spec.refine.refiner} - {""})
    return {name: (await client.policies.get(name)).digest for name in names}


def note_models(folder: Path, models: Mapping[str, str]) -> None:
    """Writes down which models a folder's results are of, for reports without services."""
    write_json(folder / MODELS, dict(models))
