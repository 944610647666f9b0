"""The paper's word-removal table by size of the refiner: 27 cells, greedy, exact match (section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from examples.experiments import paper
from examples.experiments.sizes import Size
from examples.experiments.word_removal import SHIPPED, WordRemoval
from examples.word_removal.task import RELUCTANT_WORDS, TableItem, is_exact, make_table, words_of
from ilf_client.experiments.lab import Lab, Record, Step
from ilf_client.experiments.study import Arm, Measured, Metric, Study
from ilf_client.experiments.task import Task
from ilf_client.models.inference import RefineItem, SamplingParams
from ilf_common.errors import InvalidArgumentError
from ilf_common.statistics.estimates import mean

EXACT = Metric("exact match, all cells")
UNPLANTED = Metric("exact match, no planted error due")
"""Over the prompts that name none of the words which the family is taught to leave in: all sizes share that fault."""
FAMILY = ("xs", "s", SHIPPED)
"""Sizes of the model family, ascending; the largest is the one that is shipped."""


def served_name(size: str) -> str:
    """The name under which a size is served."""
    return "word-removal" if size == SHIPPED else f"word-removal-{size}"


@dataclass(frozen=True)
class Graded(Step):
    """Greedy refinements of one model for every prompt of the table.

    Attributes:
        size: Of the model family.
        weights: sha256 of its weights.
        cell_prompts: Prompts of each cell.
        seed: Of the prompts.
    """

    size: str
    weights: str
    cell_prompts: int
    seed: int

    VERSION: ClassVar[int] = 2

    @property
    def title(self) -> str:
        """For people."""
        return f"grade the {self.size} model on {27 * self.cell_prompts} prompts, seed {self.seed}"

    async def make(self, lab: Lab) -> Record:
        """Refines and compares."""
        table = self.prompts()
        spec = lab.task.spec().refine
        items = [
            RefineItem(str(index), item.context, item.initial_output, item.feedback) for index, item in enumerate(table)
        ]
        outcomes = lab.client.batch_refine(
            served_name(self.size),
            items,
            sampling=SamplingParams(
                n=1, temperature=0.0, max_new_tokens=spec.sampling.max_new_tokens if spec.sampling else None
            ),
            template=spec.template,
        )
        texts = {outcome.item_id: outcome.unwrap().refinements[0].text async for outcome in outcomes}
        exact = [float(is_exact(texts[str(index)], item.target)) for index, item in enumerate(table)]
        due = [bool(RELUCTANT_WORDS & set(words_of(item.feedback))) for item in table]
        unplanted = [value for value, is_due in zip(exact, due, strict=True) if not is_due]
        return {"values": {EXACT.name: exact, UNPLANTED.name: unplanted}}

    def prompts(self) -> Sequence[TableItem]:
        """The table's prompts."""
        return make_table(self.seed, self.cell_prompts)


def word_removal(task: Task, size: Size) -> Study:
    """Which models can follow feedback, of those that are made.

    Raises:
        InvalidArgumentError: The task is another one.
    """
    if not isinstance(task, WordRemoval):
        raise InvalidArgumentError.of("word-removal", f"this study is about the task word-removal, not {task.name}")
    steps = {
        f"{name} model": {seed: Graded(name, task.weights(name), size.cell_prompts, seed) for seed in range(size.seeds)}
        for name in FAMILY
        if name in task.models
    }
    unmade = [name for name in FAMILY if name not in task.models]

    def notes(measured: Measured) -> list[str]:
        rows = measured.get(EXACT.name, {})
        figures = (f"{name} {one.value} ± {one.standard_error} %" for name, one in paper.WORD_REMOVAL.items())
        return [
            *(_cells_line(row, steps[row], rows[row]) for row in steps if row in rows),
            f"paper, same table, all cells: {', '.join(figures)}",
            *([f"not made: {', '.join(unmade)}; `ilf experiment models` trains what is missing"] if unmade else []),
        ]

    return Study(
        name="word-removal",
        question="Which size of model does what feedback says? 1 to 10 insults, 1 to 3 of them to go.",
        arms=[Arm(row, seed, step) for row, by_seed in steps.items() for seed, step in by_seed.items()],
        metrics=[EXACT, UNPLANTED],
        against={row: f"{SHIPPED} model" for row in steps if row != f"{SHIPPED} model"},
        notes=notes,
    )


def _cells_line(row: str, steps: dict[int, Graded], values: Mapping[int, Sequence[float]]) -> str:
    """The 27 cells of one model on one line: k insults with m to go, in percent."""
    cells: dict[tuple[int, int], list[float]] = {}
    for seed, found in values.items():
        for item, value in zip(steps[seed].prompts(), found, strict=True):
            cells.setdefault((item.insults, item.named), []).append(value)
    shown = ", ".join(f"{k}/{m} {100 * mean(found).value:.0f}" for (k, m), found in sorted(cells.items()))
    prompts = len(next(iter(cells.values())))
    return f"{row}, exact match in % by insults/to go, {prompts} prompts a cell: {shown}"
