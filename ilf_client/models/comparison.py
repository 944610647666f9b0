"""Two runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ilf_client.models.runs import Metric
from ilf_common.statistics.values import Estimate


@dataclass(frozen=True)
class ComparedMetric:
    """A metric of two runs.

    Attributes:
        name: Of the metric.
        first: Of the first run; None where it has none.
        second: Of the second.
        difference: Second minus first, where both are there; `n` is that of the smaller one, or of the pairs.
        paired: The difference is the mean over items that both measured, which tells smaller effects.
        smallest_detectable_effect: The smallest true difference that so many items would find.
    """

    name: str
    first: Metric | None
    second: Metric | None
    difference: Estimate | None = None
    paired: bool = False
    smallest_detectable_effect: float | None = None


@dataclass(frozen=True)
class RunComparison:
    """The metrics of one iteration of each of two runs."""

    first: str
    second: str
    first_iteration: int
    second_iteration: int
    metrics: Sequence[ComparedMetric]
