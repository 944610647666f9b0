"""Plots of best-of-N and evaluations, as SVG files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from ilf_client.files import new_file
from ilf_client.models.comparison import RunComparison
from ilf_client.models.evaluation import BestOfNResult, EvaluationResult
from ilf_client.models.judges import JudgesReport
from ilf_client.report.plots import ACCENT, INK, figure_of, plain, svg_of
from ilf_common.statistics.values import Estimate


def write_curve(result: BestOfNResult, path: Path) -> None:
    """Best-of-k with standard errors over k, and the KL bound on the other axis."""
    curves = {"score": result.curve, **result.metric_curves}
    figure, axes = figure_of(4.8, 3.0)
    ks = [point.k for point in result.curve]
    for name, points in curves.items():
        values = [point.estimate.value for point in points]
        errors = [_drawn_error(point.estimate) for point in points]
        line = axes.plot(ks, values, linewidth=1.2, marker="o" if len(ks) < 20 else "", markersize=3, label=name)[0]
        low = [value - error for value, error in zip(values, errors, strict=True)]
        high = [value + error for value, error in zip(values, errors, strict=True)]
        axes.fill_between(ks, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("k, samples to choose from (band: one standard error)")
    bound = axes.twinx()
    bound.plot(ks, [point.kl_bound for point in result.curve], color=INK, linestyle=":", linewidth=1)
    bound.set_ylabel("KL bound in nats (dotted)", fontsize=8)
    axes.legend(fontsize=8, frameon=False)
    with new_file(path) as stream:
        stream.write(svg_of(figure, "curve"))


def write_differences(result: EvaluationResult, path: Path) -> bool:
    """Every comparison of two arms, in standard errors from no difference; self-judged ones are not drawn.

    Returns:
        Whether there was one to draw.
    """
    return _write_distances(
        {
            f"{one.measure}: {one.arm} - {one.rival}{f' ({one.evaluator})' if one.evaluator else ''}": one.estimate
            - Estimate(one.null, 0.0, one.estimate.n)
            for one in result.figures
            if one.null is not None and not one.self_judged
        },
        path,
    )


def write_compared(comparison: RunComparison, path: Path) -> bool:
    """The differences of two runs, in standard errors.

    Returns:
        Whether there was one to draw.
    """
    return _write_distances(
        {one.name: one.difference for one in comparison.metrics if one.difference is not None}, path
    )


def _write_distances(distances: Mapping[str, Estimate], path: Path) -> bool:
    shown = {name: one for name, one in distances.items() if 0 < one.standard_error < math.inf}
    if not shown:
        return False
    figure, axes = figure_of(6.4, 0.9 + 0.26 * len(shown))
    scores = [one.value / one.standard_error for one in shown.values()]
    rows = range(len(shown))
    axes.errorbar(scores, rows, xerr=2, fmt="o", color=ACCENT, markersize=4, capsize=3, linewidth=1.2)
    axes.axvline(0, color=INK, linestyle=":", linewidth=1)
    axes.set_yticks(rows, [plain(name) for name in shown])
    axes.invert_yaxis()
    axes.set_xlabel("standard errors from no difference (bar: two of them to each side)")
    with new_file(path) as stream:
        stream.write(svg_of(figure, "differences"))
    return True


def write_reliability(report: JudgesReport, path: Path) -> None:
    """What was incorporated over what was said: by the ensemble before and after its temperature, and by each judge."""
    figure, axes = figure_of(4.4, 4.0)
    axes.plot([0, 1], [0, 1], color=INK, linestyle=":", linewidth=1)
    ensemble, *judges = report.judges
    lines = [
        (f"ensemble: ECE {ensemble.uncalibrated.ece:.3f}", ensemble.uncalibrated, 1.6),
        (f"at temperature {ensemble.temperature:.3g}: {ensemble.calibrated.ece:.3f}", ensemble.calibrated, 1.6),
        *((f"{one.judge}: {one.uncalibrated.ece:.3f}", one.uncalibrated, 0.7) for one in judges),
    ]
    for label, calibration, width in lines:
        said = [part.mean_probability for part in calibration.bins]
        came = [part.positive_share for part in calibration.bins]
        axes.plot(said, came, linewidth=width, marker="o", markersize=3, label=plain(label))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("score: said probability that the feedback is incorporated")
    axes.set_ylabel("share that was", fontsize=8)
    axes.legend(fontsize=7, frameon=False)
    with new_file(path) as stream:
        stream.write(svg_of(figure, "reliability"))


def _drawn_error(estimate: Estimate) -> float:
    return estimate.standard_error if math.isfinite(estimate.standard_error) else 0.0
