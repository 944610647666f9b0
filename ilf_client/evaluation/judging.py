"""Which of two outputs is better, asked in both orders."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilf_client.evaluation.files import as_json
from ilf_client.evaluation.parts import Record, Stage, answers
from ilf_client.models.evaluation import Evaluator
from ilf_client.models.inference import CompareItem, Comparison
from ilf_client.models.reward import RewardComparison

if TYPE_CHECKING:
    from ilf_client.aio.services import AsyncServices

TIE_WIDTH = 1e-9


class Bench:
    """One evaluator at work.

    Args:
        client: The services.
        evaluator: Who judges.
        digests: Of its reward models.
        folder: Where its answers lie.
    """

    def __init__(self, client: AsyncServices, evaluator: Evaluator, digests: dict[str, str], folder: Path) -> None:
        self._client = client
        self._evaluator = evaluator
        key: dict[str, Any] = {"reward_models": digests, "judges": as_json(evaluator.judges)}
        self._stage = Stage(folder, "comparisons", key)
        self.name = evaluator.name

    async def probabilities(self, index: int, items: Sequence[CompareItem]) -> dict[str, Record]:
        """`{"probability": …, "position_bias": …}` by item: that A is better. Equal outputs tie unasked."""
        asked = [item for item in items if item.output_a != item.output_b]
        ties = {item.item_id: {"probability": 0.5} for item in items if item.output_a == item.output_b}
        return {**ties, **await self._stage.part(index, asked, self._ask)}

    def _ask(self, items: Sequence[CompareItem]) -> AsyncIterator[tuple[str, Record]]:
        if self._evaluator.reward_models:
            outcomes = self._client.reward.batch_compare(list(self._evaluator.reward_models), items)
            return answers(outcomes, _rewarded)
        return answers(self._client.batch_compare(items, judges=self._evaluator.judges), _judged)


def won(probability: float) -> float:
    """1 for a win, 0 for a defeat, half for a tie."""
    if abs(probability - 0.5) <= TIE_WIDTH:
        return 0.5
    return 1.0 if probability > 0.5 else 0.0


def _judged(result: Comparison) -> Record:
    return {**_probability(result.probability_a), "position_bias": result.position_bias}


def _rewarded(result: RewardComparison) -> Record:
    return _probability(result.probability_a)


def _probability(value: float) -> Record:
    if not math.isfinite(value):
        return {"error": "PROBABILITY_NOT_FINITE", "message": f"the probability is {value}"}
    return {"probability": value}
