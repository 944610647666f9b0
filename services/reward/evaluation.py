"""Measures reward models on comparisons that they have not been trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from statistics import fmean

from ilf_common.errors import InvalidArgumentError
from ilf_common.rewards.comparisons import Comparison, Comparisons
from ilf_common.rewards.measuring import report_at
from ilf_common.rewards.report import RewardReport
from ilf_common.statistics.calibration import logits_of, sigmoid
from services.reward.asking import ask
from services.reward.models import CompareItem
from services.reward.questions import advantage_question
from services.reward.shelf import Served

_TOO_LONG = "too_long"
_PIECE = 512
"""Comparisons that wait at once, so that other calls find room between them."""


async def evaluate(models: Sequence[Served], found: Comparisons) -> RewardReport:
    """The report of one model, or of the mean probability of several.

    Comparisons of contexts that a model was trained on, and those that are too long, are dropped and counted.

    Raises:
        InvalidArgumentError: reason DATASET_INVALID; no comparison is left.
        IlfError: A model gives a number that is not finite, and what the models' queues raise.
    """
    trained_on = frozenset[str]().union(*(served.model.card.trained_on for served in models))
    fresh = found.without_contexts(trained_on)
    dropped = Counter(fresh.dropped)
    rows: list[Comparison] = []
    advantages: list[tuple[float, ...]] = []
    for start in range(0, len(fresh.rows), _PIECE):
        piece = fresh.rows[start : start + _PIECE]
        known = await _advantages(models, piece)
        rows += [row for row, advantage in zip(piece, known, strict=True) if advantage is not None]
        advantages += [advantage for advantage in known if advantage is not None]
        dropped[_TOO_LONG] += known.count(None)
    return _report(models, rows, advantages, dropped)


async def _advantages(models: Sequence[Served], rows: Sequence[Comparison]) -> list[tuple[float, ...] | None]:
    """Of the preferred texts, by each model; None where a model cannot read the comparison."""
    items = [CompareItem(str(place), row.context, row.chosen, row.rejected) for place, row in enumerate(rows)]
    known: list[tuple[float, ...] | None] = [None] * len(rows)
    async with aclosing(ask(models, items, advantage_question(models))) as groups:
        async for outcomes in groups:
            for outcome in outcomes:
                if outcome.error is not None and not isinstance(outcome.error, InvalidArgumentError):
                    raise outcome.error
                known[int(outcome.item_id)] = outcome.result
    return known


def _report(
    models: Sequence[Served], rows: Sequence[Comparison], advantages: Sequence[tuple[float, ...]], dropped: Counter[str]
) -> RewardReport:
    counts = {reason: count for reason, count in sorted(dropped.items()) if count}
    if not rows:
        reasons = ", ".join(f"{count} dropped as {reason}" for reason, count in counts.items()) or "there are none"
        raise InvalidArgumentError.of(
            "dataset_uri", f"holds no comparison to measure on: {reasons}", reason="DATASET_INVALID"
        )
    if len(models) == 1:
        return report_at(rows, [first for (first,) in advantages], models[0].model.card.temperature, counts)
    temperatures = [served.model.card.temperature for served in models]
    means = [fmean(sigmoid([a / t for a, t in zip(row, temperatures, strict=True)])) for row in advantages]
    return report_at(rows, logits_of(means).tolist(), 1.0, counts)
