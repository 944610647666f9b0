"""What ranking needs of the outside: judge models, an ensemble that asks them, an embedding model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ilf_common.engine.port import Outcome
from services.ranking.models import AnswerLogprobs, CandidateScore, CompareItem, Comparison, Judge, Question, RankItem


class JudgePool(Protocol):
    """The judge models."""

    async def answer(
        self, model: str, questions: Sequence[Question], timeout: float | None
    ) -> Sequence[Outcome[AnswerLogprobs]]:
        """Asks one model a batch of questions; one bad question never fails the others.

        Args:
            model: Name of a judge model.
            questions: Neighbours that share long prefixes are answered fastest.
            timeout: Seconds that are left, or None for no limit.

        Raises:
            UnavailableError: The model is down; nothing was answered.
            DeadlineExceededError: Time ran out.
        """
        ...


class JudgeEnsemble(Protocol):
    """Asks every judge about every item and averages; answers are in the order of the items."""

    async def rank(
        self, items: Sequence[RankItem], judges: Sequence[Judge], timeout: float | None
    ) -> Sequence[Outcome[tuple[CandidateScore, ...]]]:
        """Scores all candidates of all items."""
        ...

    async def compare(
        self, items: Sequence[CompareItem], judges: Sequence[Judge], timeout: float | None
    ) -> Sequence[Outcome[Comparison]]:
        """Compares the two outputs of every item, in both orders."""
        ...


class Embedder(Protocol):
    """An embedding model."""

    async def similarities(
        self, groups: Sequence[tuple[str, tuple[str, ...]]], timeout: float | None
    ) -> Sequence[tuple[float, ...]]:
        """Cosines between the text of each group and each of its candidates, in [-1, 1].

        Raises:
            UnavailableError: The model is down.
            DeadlineExceededError: Time ran out.
        """
        ...


class Metrics(Protocol):
    """What operators watch."""

    def items_finished(self, ranker: str, results: int, errors: int) -> None:
        """Counts items by how they ended; comparisons have the ranker `compare`."""
        ...

    def judges_chose(self, same: int, other: int) -> None:
        """Counts judges whose highest candidate is the ensemble's, and those with another one."""
        ...

    def queued(self, items: int) -> None:
        """Shows the items at work or waiting."""
        ...
