"""What an experiment runs on: contexts with all that is known of them, a run's configuration, and a score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ilf_client.models.jobs import Hyperparameters
from ilf_client.models.specs import RunSpec
from ilf_common.templates import PromptTemplate

if TYPE_CHECKING:
    from ilf_client.aio.client import AsyncClient


@dataclass(frozen=True)
class TaskRow:
    """One context with all fields.

    Attributes:
        id: Unique in its part.
        context: What the policy is given.
        initial_output: What the policy answered before any training.
        feedback: What is wrong with that, in words.
        reference: What a person would have written.
        chosen: The better one of two compared outputs.
        rejected: The other one.
    """

    id: str
    context: str
    initial_output: str
    feedback: str
    reference: str
    chosen: str = ""
    rejected: str = ""


def run_key(data: Mapping[str, Any], spec: RunSpec) -> dict[str, Any]:
    """What determines a run: its YAML as it was written, and its templates' digests.

    What the YAML leaves out does not count, so that a new field of `RunSpec` makes no finished step unfinished.
    """
    return {"run": data, "templates": sorted(set(_templates(spec)))}


def _templates(value: object) -> Iterator[str]:
    if isinstance(value, PromptTemplate):
        yield value.digest
    elif is_dataclass(value):
        for field in fields(value):
            yield from _templates(getattr(value, field.name))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for part in value:
            yield from _templates(part)


class Task(Protocol):
    """A task; its parts ("train", "dev", "test") share no context."""

    @property
    def name(self) -> str:
        """In folders and tables."""

    @property
    def score_means(self) -> str:
        """What `scores` measure, in a few words."""

    @property
    def key(self) -> Mapping[str, Any]:
        """All that determines its rows and its score."""

    @property
    def refine_without_feedback(self) -> PromptTemplate:
        """The refiner's prompt for a context and an initial output alone."""

    @property
    def reward_hyperparameters(self) -> Hyperparameters:
        """How its reward models are trained."""

    @property
    def compares_samples(self) -> bool:
        """Whether its rows' comparisons are of a model's own samples."""

    def final_answer(self, output: str) -> str:
        """The answer of a policy that first says what would be wrong with another one."""

    def spec(self, changes: Sequence[str] = ()) -> RunSpec:
        """The task's run with `a.b=value` applied."""

    def rows(self, part: str, count: int, seed: int) -> Sequence[TaskRow]:
        """The first `count` rows of a part; a smaller number gives a prefix of a larger one.

        Raises:
            InvalidArgumentError: There are fewer.
        """

    async def scores(self, client: AsyncClient, rows: Sequence[TaskRow], outputs: Sequence[str]) -> Sequence[float]:
        """How good each output is, between 0 and 1."""

    async def incorporated(
        self, client: AsyncClient, rows: Sequence[TaskRow], outputs: Sequence[str]
    ) -> Sequence[float]:
        """Whether each output does what its row's feedback asks for, between 0 and 1."""

    async def wins(
        self, client: AsyncClient, rows: Sequence[TaskRow], outputs: Sequence[str], rivals: Sequence[str]
    ) -> Sequence[float]:
        """1 where an output is better than its rival, 0 where it is worse, 0.5 for a tie."""
