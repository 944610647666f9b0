"""Tables of best-of-N and evaluations: headers and rows, for the terminal and for pages."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ilf_client.models.comparison import RunComparison
from ilf_client.models.evaluation import BestOfNResult, EvaluationResult, Figure
from ilf_client.models.judges import JudgesReport
from ilf_common.statistics.values import Estimate

Table = tuple[list[str], list[list[object]]]


def curve_rows(result: BestOfNResult) -> Table:
    """The curve at powers of two and at N."""
    shown = [k for k in range(1, result.n + 1) if k & (k - 1) == 0 or k == result.n]
    headers = ["k", "score", *result.metric_curves, "n", "KL bound"]
    if not result.curve:
        return headers, []
    return headers, [
        [
            k,
            with_error(result.curve[k - 1].estimate),
            *(with_error(curve[k - 1].estimate) for curve in result.metric_curves.values()),
            result.curve[k - 1].estimate.n,
            f"{result.curve[k - 1].kl_bound:.3f}",
        ]
        for k in shown
    ]


def figure_rows(result: EvaluationResult) -> Table:
    """All figures but those that are self-judged: they are no evidence, and no table shows them."""
    headers = ["measure", "arm", "against", "by", "value", "n", "detectable", ""]
    return headers, [
        [
            figure.measure,
            figure.arm,
            figure.rival,
            figure.evaluator,
            with_error(figure.estimate),
            figure.estimate.n,
            f"{figure.smallest_detectable_effect:.2g}" if math.isfinite(figure.smallest_detectable_effect) else "?",
            verdict(figure),
        ]
        for figure in result.figures
        if not figure.self_judged
    ]


def judge_rows(report: JudgesReport) -> Table:
    """The ensemble and each judge: accuracy, calibration and the pull of length."""
    headers = [
        "judge",
        "accuracy",
        "95 %",
        "ECE",
        "Brier",
        "temperature",
        "ECE then",
        "Brier then",
        "score a character",
    ]
    return headers, [
        [
            one.judge,
            with_error(one.accuracy),
            f"{one.accuracy_low:.3f} to {one.accuracy_high:.3f}",
            f"{one.uncalibrated.ece:.3f}",
            f"{one.uncalibrated.brier:.3f}",
            f"{one.temperature:.3g}",
            f"{one.calibrated.ece:.3f}",
            f"{one.calibrated.brier:.3f}",
            "none" if one.length_slope is None else with_error(one.length_slope),
        ]
        for one in report.judges
    ]


def compared_rows(comparison: RunComparison) -> Table:
    """Two runs side by side."""
    sides = [
        f"{name.removeprefix('runs/')} it-{iteration}"
        for name, iteration in (
            (comparison.first, comparison.first_iteration),
            (comparison.second, comparison.second_iteration),
        )
    ]
    return ["metric", *sides, "difference", "n", "detectable", ""], [
        [
            one.name,
            *(
                "" if side is None else with_error(Estimate(side.value, side.standard_error, side.n))
                for side in (one.first, one.second)
            ),
            *(
                [""] * 4
                if one.difference is None
                else [
                    with_error(one.difference),
                    f"{one.difference.n} pairs" if one.paired else one.difference.n,
                    f"{one.difference.smallest_detectable_effect:.2g}",
                    told_apart(one.difference, 0.0),
                ]
            ),
        ]
        for one in comparison.metrics
    ]


def verdict(figure: Figure) -> str:
    """What a figure's distance from no difference is worth."""
    return "" if figure.null is None else told_apart(figure.estimate, figure.null)


def told_apart(estimate: Estimate, null: float) -> str:
    """Whether a two-sided test at 5 % tells a value from `null`."""
    return "differs" if abs(estimate.value - null) > 1.96 * estimate.standard_error else "not told apart"


def with_error(estimate: Estimate) -> str:
    """`0.123 ± 0.045`; an error that is not known is left open."""
    error = f"{estimate.standard_error:.2g}" if math.isfinite(estimate.standard_error) else "?"
    return f"{estimate.value:.4g} ± {error}"


def markdown(table: Table) -> str:
    """A table as Markdown."""

    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    headers, rows = table
    return "\n".join([line(headers), line(["---"] * len(headers)), *map(line, rows)]) + "\n"
