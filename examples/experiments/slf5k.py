"""SLF5K's files as published: posts, summaries, feedback, references and comparisons, judged by models.

https://huggingface.co/datasets/JeremyAlain/SLF5K has four JSON-lines files. Policies and reward models learn from
`train`; rankers, refinements and likelihoods are measured on `validation` (else `development` or `dev`), policies on
`test`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from ilf_client import AsyncClient
from ilf_client.config import apply_overrides, build, read_yaml
from ilf_client.evaluation.files import digest_of
from ilf_client.experiments.task import TaskRow, run_key
from ilf_client.models.inference import CompareItem, JudgeSpec, RankItem
from ilf_client.models.jobs import Hyperparameters
from ilf_client.models.specs import RunSpec
from ilf_common.artifacts import ArtifactStore
from ilf_common.datasets import ColumnMap, DatasetRow, RowError, open_dataset
from ilf_common.datasets.reader import raw_rows
from ilf_common.errors import InvalidArgumentError
from ilf_common.rewards.comparisons import parse_comparisons
from ilf_common.templates import PromptTemplate, load_template

TEMPLATES = Path(__file__).resolve().parent.parent / "summarization" / "templates"

# The published names, then shorter ones.
_FILES: Mapping[str, Sequence[str]] = {
    "train": ("train",),
    "dev": ("validation", "development", "dev"),
    "test": ("test",),
}
_TIE = 0.02
"""How close to one half a judges' probability counts as a tie."""


@dataclass(frozen=True)
class Slf5k:
    """The data set with the user's models.

    Attributes:
        folder: Where the JSON-lines files lie.
        config: A run's YAML; `evaluate.judges` are who the results are judged by.
        overrides: `a.b=value`.
    """

    folder: Path
    config: Path
    overrides: tuple[str, ...] = ()

    name: ClassVar[str] = "slf5k"
    score_means: ClassVar[str] = "win over the reference by the judges of evaluate.judges"
    compares_samples: ClassVar[bool] = True
    reward_hyperparameters: ClassVar[Hyperparameters] = Hyperparameters(learning_rate=5e-5, epochs=3, batch_size=8)

    @property
    def key(self) -> Mapping[str, Any]:
        """The run and the files' contents."""
        rows = {part: digest_of([row.__dict__ for row in self._rows[part]]) for part in _FILES}
        run = run_key(self._data(()), self.spec())
        return {"task": self.name, "rows": rows, **run}

    @property
    def refine_without_feedback(self) -> PromptTemplate:
        """The paper's prompt without the feedback."""
        return load_template(TEMPLATES / "refine_without_feedback.yaml")

    def spec(self, changes: Sequence[str] = ()) -> RunSpec:
        """The user's run with changes."""
        return build(RunSpec, self._data(changes), folder=self.config.parent)

    def rows(self, part: str, count: int, seed: int) -> Sequence[TaskRow]:
        """The first rows of a file, as in the paper; every seed has the same ones.

        Raises:
            InvalidArgumentError: The file has fewer.
        """
        found = self._rows[part]
        if len(found) < count:
            raise InvalidArgumentError.of(
                "--size", f"wants {count} rows of {part}, the file has {len(found)} usable ones; choose a smaller size"
            )
        return found[:count]

    def final_answer(self, output: str) -> str:
        """What follows the first line, which is feedback."""
        return output.strip().partition("\n")[2].strip()

    async def scores(self, client: AsyncClient, rows: Sequence[TaskRow], outputs: Sequence[str]) -> Sequence[float]:
        """Wins against the reference."""
        return await self.wins(client, rows, outputs, [row.reference for row in rows])

    async def incorporated(
        self, client: AsyncClient, rows: Sequence[TaskRow], outputs: Sequence[str]
    ) -> Sequence[float]:
        """Whether the rankers' questions, asked of the evaluation's models, hold the feedback for incorporated."""
        models = dict.fromkeys(judge.model for judge in self._evaluators())
        ranker = self.spec().rank.ranker
        judges = [
            replace(judge, name=f"{judge.name}-{number}", model=model)
            for number, model in enumerate(models)
            for judge in ranker.judges
        ]
        items = [
            RankItem(str(index), row.context, row.initial_output, row.feedback, [output])
            for index, (row, output) in enumerate(zip(rows, outputs, strict=True))
        ]
        outcomes = client.batch_rank(items, ranker=replace(ranker, judges=judges))
        found = {outcome.item_id: outcome.unwrap().scores[0].score async for outcome in outcomes}
        return [float(found[str(index)] > 0.5) for index in range(len(rows))]

    async def wins(
        self, client: AsyncClient, rows: Sequence[TaskRow], outputs: Sequence[str], rivals: Sequence[str]
    ) -> Sequence[float]:
        """By the evaluation's judges, both orders; equal texts tie.

        Raises:
            InvalidArgumentError: There are no judges, or they share a model with the rankers.
        """
        judges = self._evaluators()
        items = [
            CompareItem(str(index), row.context, output, rival)
            for index, (row, output, rival) in enumerate(zip(rows, outputs, rivals, strict=True))
            if output != rival
        ]
        outcomes = client.batch_compare(items, judges=judges)
        found = {outcome.item_id: outcome.unwrap().probability_a async for outcome in outcomes}
        return [_win(found.get(str(index), 0.5)) for index in range(len(rows))]

    def _evaluators(self) -> Sequence[JudgeSpec]:
        spec = self.spec()
        judges = spec.evaluate.judges
        own = {spec.policy, spec.refine.refiner, *(judge.model for judge in spec.rank.ranker.judges)}
        shared = sorted({judge.model for judge in judges} & own)
        if not judges or not spec.rank.ranker.judges or shared:
            raise InvalidArgumentError.of(
                "evaluate.judges",
                f"share the model {shared[0]} with what they judge; name judges on another model"
                if shared
                else "and rank.ranker.judges must both be named with their models, so that none judges its own choice",
            )
        return judges

    def _data(self, changes: Sequence[str]) -> dict[str, Any]:
        return apply_overrides(read_yaml(self.config), (*self.overrides, *changes))

    @cached_property
    def _rows(self) -> dict[str, list[TaskRow]]:
        rows = {part: _read(self.folder, names) for part, names in _FILES.items()}
        seen: set[str] = set()
        for part, found in rows.items():
            contexts = {row.context for row in found}
            if shared := len(contexts & seen):
                raise InvalidArgumentError.of("--data", f"{part} has {shared} contexts of another file; take them out")
            seen |= contexts
        return rows


def _read(folder: Path, names: Sequence[str]) -> list[TaskRow]:
    """The usable rows of a split.

    Raises:
        InvalidArgumentError: There is no such file.
    """
    store = ArtifactStore(str(folder.resolve()))
    file = next((f"{name}.jsonl" for name in names if store.exists(f"{name}.jsonl")), None)
    if file is None:
        raise InvalidArgumentError.of("--data", f"{folder} has no {' or '.join(f'{name}.jsonl' for name in names)}")
    comparisons = {}
    for comparison in parse_comparisons(
        (number, raw) for number, raw in enumerate(raw_rows(store, file), 1) if not isinstance(raw, str)
    ).rows:
        comparisons[comparison.context] = comparison
    rows = open_dataset(store, file, columns=ColumnMap(), needs=frozenset(), field="--data").rows()
    return [_row(row, comparisons) for row in rows if not isinstance(row, RowError)]


def _row(row: DatasetRow, comparisons: Mapping[str, Any]) -> TaskRow:
    compared = comparisons.get(row.context)
    return TaskRow(
        row.id,
        row.context,
        row.initial_output or "",
        row.feedback or "",
        row.reference or "",
        compared.chosen if compared else "",
        compared.rejected if compared else "",
    )


def _win(probability: float) -> float:
    return 0.5 if abs(probability - 0.5) <= _TIE else float(probability > 0.5)
