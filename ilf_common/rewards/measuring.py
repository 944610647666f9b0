"""Measures what a reward model is worth on comparisons that it has not been trained on; pure.

The probabilities whose calibration is measured are those that the first of two texts is the preferred one, with every
comparison seen in both orders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ilf_common.rewards.comparisons import Comparison, context_digest
from ilf_common.rewards.report import Calibration, LengthBias, Margins, RewardReport, SliceReport
from ilf_common.statistics.calibration import (
    LOWEST_TEMPERATURE,
    both_orders,
    brier_score,
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
    sigmoid,
)
from ilf_common.statistics.estimates import mean, wilson_interval
from ilf_common.statistics.lengths import length_matched_accuracy, slope_on_length
from ilf_common.statistics.values import Estimate
from ilf_common.statistics.vectors import Vector, vector


def fitted_report(rows: Sequence[Comparison], advantages: Sequence[float], dropped: Mapping[str, int]) -> RewardReport:
    """The report on a validation part to which the temperature is fitted.

    The temperature of the report, and of the model from then on, is fitted to all rows. Its own calibration is
    measured crosswise: the contexts are halved, and each half is judged by the temperature of the other.

    Args:
        rows: Comparisons that were held out of training.
        advantages: By how much each preferred text is ahead.
        dropped: Rows that were left out before, by reason.

    Raises:
        InvalidArgumentError: No rows, or an advantage that is not finite.
    """
    margins = vector("advantages", advantages, length=len(rows))
    first = np.asarray([int(context_digest(row.context), 16) % 2 == 0 for row in rows], dtype=bool)
    temperatures = np.empty(margins.size)
    for half in (first, ~first):
        temperatures[half] = temperature_of(margins[~half])
    return _report(rows, margins, temperatures, temperature_of(margins), dropped)


def report_at(
    rows: Sequence[Comparison], advantages: Sequence[float], temperature: float, dropped: Mapping[str, int]
) -> RewardReport:
    """The report on comparisons to which nothing is fitted; arguments and errors as in `fitted_report`."""
    margins = vector("advantages", advantages, length=len(rows))
    return _report(rows, margins, np.full(margins.size, temperature), temperature, dropped)


def temperature_of(margins: Sequence[float] | Vector) -> float:
    """The temperature that advantages of preferred texts ask for.

    1 where there are none, or where all of them are right: then none is too low, and nothing was learned about it.
    """
    if not len(margins):
        return 1.0
    fitted = fit_temperature(*both_orders(margins))
    return 1.0 if fitted <= LOWEST_TEMPERATURE else fitted


def _report(
    rows: Sequence[Comparison],
    margins: Vector,
    temperatures: Vector,
    temperature: float,
    dropped: Mapping[str, int],
) -> RewardReport:
    contexts = [row.context for row in rows]
    chosen = np.asarray([len(row.chosen) for row in rows], dtype=np.float64)
    rejected = np.asarray([len(row.rejected) for row in rows], dtype=np.float64)
    accuracy, low, high = _accuracy(margins, contexts)
    quantiles = np.quantile(margins, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist()
    return RewardReport(
        pairs=len(rows),
        contexts=len(set(contexts)),
        dropped=dict(dropped),
        accuracy=accuracy,
        accuracy_low=low,
        accuracy_high=high,
        margins=Margins(float(margins.mean()), float(margins.std()), *quantiles),
        uncalibrated=_calibration(margins),
        calibrated=_calibration(margins / temperatures),
        temperature=temperature,
        length=LengthBias(
            slope=_slope(margins, chosen - rejected, contexts),
            matched_accuracy=length_matched_accuracy(margins, chosen, rejected, clusters=contexts),
            longer_is_preferred=float(np.mean((np.sign(chosen - rejected) + 1) / 2)),
        ),
        slices=_slices(rows, margins),
    )


def _accuracy(margins: Vector, contexts: Sequence[str]) -> tuple[Estimate, float, float]:
    hits = (np.sign(margins) + 1) / 2
    interval = wilson_interval(float(hits.sum()), len(hits))
    return mean(hits, contexts), interval.low, interval.high


def _calibration(logits: Vector) -> Calibration:
    both, labels = both_orders(logits)
    probabilities = sigmoid(both)
    bins = reliability_bins(probabilities, labels)
    return Calibration(expected_calibration_error(bins), brier_score(probabilities, labels), bins)


def _slope(margins: Vector, differences: Vector, contexts: Sequence[str]) -> Estimate | None:
    """Over both orders, so that the line goes through the origin: equal lengths give no advantage."""
    return slope_on_length(
        np.concatenate([margins, -margins]), np.concatenate([differences, -differences]), [*contexts, *contexts]
    )


def _slices(rows: Sequence[Comparison], margins: Vector) -> list[SliceReport]:
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row.slice, []).append(place)
    if places.keys() <= {""}:
        return []
    reports = []
    for value, where in sorted(places.items()):
        accuracy = _accuracy(margins[where], [rows[place].context for place in where])
        reports.append(SliceReport(value, len(where), *accuracy))
    return reports
