"""The word-removal task with all fields (initial output, feedback, reference, comparison) and an exact score."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, get_args

from examples.word_removal.arms import FOLDER
from examples.word_removal.data import make_contexts
from examples.word_removal.program import HIDDEN_WORDS, exact_match, feedback, target
from examples.word_removal.task import Split, context_sentence, make_sentence, sentence_words, words_of
from ilf_client import AsyncClient
from ilf_client.config import apply_overrides, build, read_yaml
from ilf_client.experiments.task import TaskRow, run_key
from ilf_client.models.jobs import Hyperparameters
from ilf_client.models.specs import RunSpec
from ilf_common.errors import InvalidArgumentError
from ilf_common.templates import PromptTemplate

SHIPPED = "m"
"""The size of the family that is shipped."""

SHIPPED_MODEL = FOLDER / "model"

PROGRAM = "examples.word_removal.program:feedback"
"""The function that gives feedback on outputs which are not in the data."""

_LEFT_IN, _LOST = 0.5, 0.05


@dataclass(frozen=True)
class WordRemoval:
    """Sentences without the words of a hidden list; see `examples.word_removal`.

    Attributes:
        models: Directories of the model family by size, as far as they are made.
    """

    models: Mapping[str, Path] = field(default_factory=lambda: {SHIPPED: SHIPPED_MODEL})

    name: ClassVar[str] = "word-removal"
    score_means: ClassVar[str] = "exact match"
    compares_samples: ClassVar[bool] = False
    reward_hyperparameters: ClassVar[Hyperparameters] = Hyperparameters(learning_rate=5e-4, epochs=2, batch_size=16)

    @property
    def key(self) -> Mapping[str, Any]:
        """The run, and the version of the rows, which is raised by hand."""
        run = run_key(read_yaml(FOLDER / "run.yaml"), self.spec())
        return {"task": self.name, "rows": 1, **run}

    @property
    def refine_without_feedback(self) -> PromptTemplate:
        """The refiner's prompt with the feedback that says nothing: a shorter one this small model has never seen."""
        refine = self.spec().refine.template
        assert isinstance(refine, PromptTemplate)
        return PromptTemplate(
            name="refine_without_feedback",
            text=refine.text.replace("{feedback}", feedback("", "")),
            target_prefix=refine.target_prefix,
        )

    def spec(self, changes: Sequence[str] = ()) -> RunSpec:
        """The demo's run with changes."""
        return build(RunSpec, apply_overrides(read_yaml(FOLDER / "run.yaml"), changes), folder=FOLDER)

    def rows(self, part: str, count: int, seed: int) -> Sequence[TaskRow]:
        """Rows of "train", "dev" or "test"; every seed draws its own sentences."""
        return _rows(part, seed, count)

    def weights(self, size: str) -> str:
        """sha256 of the weights of a size of the family that is made."""
        return hashlib.sha256((self.models[size] / "model.safetensors").read_bytes()).hexdigest()

    def final_answer(self, output: str) -> str:
        """The last line."""
        return output.strip().rpartition("\n")[2]

    async def scores(self, client: AsyncClient, rows: Sequence[TaskRow], outputs: Sequence[str]) -> Sequence[float]:
        """1 for the right answer, 0 for any other."""
        return [exact_match(row.context, output) for row, output in zip(rows, outputs, strict=True)]

    async def incorporated(
        self, client: AsyncClient, rows: Sequence[TaskRow], outputs: Sequence[str]
    ) -> Sequence[float]:
        """1 where no word that the feedback names is left, whatever else the output says."""
        return [
            float(not set(words_of(output)) & set(words_of(row.feedback)) & HIDDEN_WORDS)
            for row, output in zip(rows, outputs, strict=True)
        ]

    async def wins(
        self, client: AsyncClient, rows: Sequence[TaskRow], outputs: Sequence[str], rivals: Sequence[str]
    ) -> Sequence[float]:
        """By the number of wrong words; as many are a tie."""
        return [
            _win(words_off(row.context, output), words_off(row.context, rival))
            for row, output, rival in zip(rows, outputs, rivals, strict=True)
        ]


def words_off(context: str, output: str) -> int:
    """How many words have to go or to come to make an output the right answer; a wrong order alone counts as one."""
    wanted, given = target(context), output.strip()
    if given == wanted:
        return 0
    have, want = Counter(given.split()), Counter(wanted.split())
    return max(1, (have - want).total() + (want - have).total())


def _win(mine: int, other: int) -> float:
    return 0.5 if mine == other else float(mine < other)


@lru_cache(maxsize=32)
def _rows(part: str, seed: int, count: int) -> Sequence[TaskRow]:
    split: Split | None = next((name for name in get_args(Split) if name == part and name != "model"), None)
    if split is None:
        raise InvalidArgumentError.of("part", f"is {part!r}; there are train, dev and test")
    return [
        _row(f"{part}-{seed}-{index:05d}", context) for index, context in enumerate(make_contexts(split, count, seed))
    ]


def _row(row_id: str, context: str) -> TaskRow:
    initial_output = context_sentence(context)
    chosen, rejected = _compared(context)
    return TaskRow(
        row_id, context, initial_output, feedback(context, initial_output), target(context), chosen, rejected
    )


def _compared(context: str) -> tuple[str, str]:
    """Two faulty answers, the one with fewer wrong words first."""
    rng = random.Random(context)
    while True:
        outputs = sorted((_faulty(rng, context) for _ in range(2)), key=lambda output: words_off(context, output))
        if words_off(context, outputs[0]) < words_off(context, outputs[1]):
            return outputs[0], outputs[1]


def _faulty(rng: random.Random, context: str) -> str:
    words = sentence_words(context_sentence(context))
    return make_sentence([word for word in words if rng.random() >= (1 - _LEFT_IN if word in HIDDEN_WORDS else _LOST)])
