"""From what the arms measured to rows with errors, and what each row could have told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from ilf_client.experiments.study import Measured, Metric, PaperFigure, Study
from ilf_common.statistics.estimates import mean, paired_difference
from ilf_common.statistics.values import Estimate

LEAST_SEEDS = 3
_Z = 1.959963984540054


@dataclass(frozen=True)
class TableRow:
    """One row.

    Attributes:
        row: Its name.
        seeds: Seeds that it was measured with.
        estimate: The mean over seeds; `n` counts the items of all seeds.
        against: The row that it is compared with; empty for none.
        difference: To that row.
        paper: The paper's figure, if it has one.
    """

    row: str
    seeds: int
    estimate: Estimate
    against: str = ""
    difference: Estimate | None = None
    paper: PaperFigure | None = None

    @property
    def verdict(self) -> str:
        """What the difference tells, at 5 % two-sided; a row without the power to tell says so."""
        if self.difference is None:
            return ""
        if self.seeds < LEAST_SEEDS:
            return f"too few seeds to tell ({self.seeds})"
        if abs(self.difference.value) < _Z * self.difference.standard_error or not self.difference.value:
            return "cannot tell"
        return "higher" if self.difference.value > 0 else "lower"


@dataclass(frozen=True)
class Table:
    """The rows of one metric of a study."""

    metric: Metric
    rows: Sequence[TableRow]


def tables_of(study: Study, measured: Measured) -> list[Table]:
    """A table for each metric that was measured, its rows in the order of the arms."""
    order = list(dict.fromkeys(arm.row for arm in study.arms))
    made = []
    for metric in study.metrics:
        papers = study.paper.get(metric.name, {})
        rows = measured.get(metric.name, {})
        found = [_row(row, rows, study.against.get(row, ""), papers.get(row), metric) for row in order if row in rows]
        if found:
            made.append(Table(metric, found))
    return made


def _row(
    row: str,
    rows: Mapping[str, Mapping[int, Sequence[float]]],
    against: str,
    paper: PaperFigure | None,
    metric: Metric,
) -> TableRow:
    estimate = over_seeds(rows[row], share=metric.share)
    if against not in rows or not set(rows[row]) & set(rows[against]):
        return TableRow(row, len(rows[row]), estimate, paper=paper)
    difference = difference_of(rows[row], rows[against], share=metric.share)
    return TableRow(row, len(rows[row]), estimate, against, difference, paper)


def over_seeds(values: Mapping[int, Sequence[float]], *, share: bool = True) -> Estimate:
    """Mean over seeds of the items' means.

    Every seed draws its own items, so items say how far the mean may be off, and so does the spread between seeds;
    the larger of the two is the error. With few seeds the spread alone would often be small by chance.

    Args:
        values: Of the items, by seed.
        share: Items are between 0 and 1. Then the error is at least 1/n: where none of n items differs, up to about
            3/n of all may (the rule of three), and an error of 0 would claim to know that they do not.
    """
    items = [value for seed in sorted(values) for value in values[seed]]
    means = [fmean(values[seed]) for seed in sorted(values)]
    return _over(means, mean(items), share)


def difference_of(
    values: Mapping[int, Sequence[float]], reference: Mapping[int, Sequence[float]], *, share: bool = True
) -> Estimate:
    """Mean difference to a reference over the seeds (at least one) that both have; by item where both have the same.

    Errors as in `over_seeds`.
    """
    common = sorted(set(values) & set(reference))
    means = [fmean(values[seed]) - fmean(reference[seed]) for seed in common]
    mine = [value for seed in common for value in values[seed]]
    others = [value for seed in common for value in reference[seed]]
    paired = all(len(values[seed]) == len(reference[seed]) for seed in common)
    return _over(means, paired_difference(mine, others) if paired else mean(mine) - mean(others), share)


def _over(means: Sequence[float], pooled: Estimate, share: bool) -> Estimate:
    between = stdev(means) / math.sqrt(len(means)) if len(means) > 1 else 0.0
    least = 1 / pooled.n if share else 0.0
    return Estimate(fmean(means), max(pooled.standard_error, between, least), pooled.n)
