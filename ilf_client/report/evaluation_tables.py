"""Tables of best-of-N and evaluations: headers and rows, for the terminal and for pages."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ilf_client.models.evaluation import BestOfNResult, EvaluationResult, Figure
from ilf_client.models.judges import JudgesReport
from ilf_common.statistics.estimates import Estimate

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


def verdict(figure: Figure) -> str:
    """What a figure's distance from no difference is worth."""
    if figure.null is None:
        return ""
    distance = abs(figure.estimate.value - figure.null)
    if distance > 1.96 * figure.estimate.standard_error:
        return "differs"
    return "not told apart"


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
