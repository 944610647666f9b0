"""Selection: what is kept of an item's ranked refinements, as weights that sum to 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

from services.orchestrator.models import SelectionMethod, SelectStage


def choose(scores: Sequence[float]) -> int:
    """Index of the highest score, the first of equals."""
    return max(range(len(scores)), key=lambda index: (scores[index], -index))


def weights(scores: Sequence[float], select: SelectStage) -> tuple[float, ...]:
    """The weight of each refinement in the training loss.

    ARGMAX gives 1 to the best; SOFTMAX is proportional to exp(beta * score) (the self-normalised importance weights of
    Eq. 4 of the paper, the proposal taken as constant), equal to ARGMAX for beta towards infinity where the best is
    unique; TOP_K gives 1/k to each of the k best. The first of equals counts as better.

    Args:
        scores: At least one finite score.
        select: A resolved selection stage.
    """
    if select.method is SelectionMethod.SOFTMAX:
        return _softmax([select.beta * score for score in scores])
    count = min(select.k, len(scores)) if select.method is SelectionMethod.TOP_K else 1
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    kept = frozenset(order[:count])
    return tuple(1.0 / count if index in kept else 0.0 for index in range(len(scores)))


def _softmax(logits: Sequence[float]) -> tuple[float, ...]:
    highest = max(logits)
    powers = [math.exp(value - highest) for value in logits]
    total = math.fsum(powers)
    return tuple(value / total for value in powers)
