"""What a reward model is worth, as tables for the terminal, a file, and a reliability plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ilf_client.report.evaluation_tables import Table, with_error
from ilf_client.report.plots import INK, figure_of
from ilf_common.rewards.report import to_json

if TYPE_CHECKING:
    from ilf_common.rewards.report import RewardReport
    from ilf_common.statistics.values import Estimate

REPORT_FILE, PLOT_FILE = "report.json", "reliability.png"


def summary_rows(report: RewardReport) -> Table:
    """Accuracy, margins, calibration and length, one a line."""
    margins, raw, mended, length = report.margins, report.uncalibrated, report.calibrated, report.length
    interval = f"95 %: {report.accuracy_low:.3f} to {report.accuracy_high:.3f}"
    quantiles = f"5 %: {margins.p05:.3g}, median: {margins.median:.3g}, 95 %: {margins.p95:.3g}"
    return ["", "value", ""], [
        ["accuracy", with_error(report.accuracy), f"{interval}, {report.pairs} pairs of {report.contexts} contexts"],
        ["margin", f"{margins.mean:.4g}", f"deviation {margins.std:.3g}; {quantiles}"],
        ["temperature", f"{report.temperature:.4g}", "1 where nothing was fitted"],
        ["ECE", f"{mended.ece:.4f}", f"{raw.ece:.4f} at temperature 1"],
        ["Brier", f"{mended.brier:.4f}", f"{raw.brier:.4f} at temperature 1; 0.25 is a coin"],
        ["accuracy, equal lengths", _or_none(length.matched_accuracy), "lengths within a tenth of each other"],
        ["preferring the longer", f"{length.longer_is_preferred:.4g}", "accuracy of length alone"],
        ["reward a character", _or_none(length.slope), "slope within comparisons"],
    ]


def slice_rows(report: RewardReport) -> Table:
    """The accuracy by value of the slice column."""
    return ["slice", "pairs", "accuracy", "95 %"], [
        [part.value, part.pairs, with_error(part.accuracy), f"{part.accuracy_low:.3f} to {part.accuracy_high:.3f}"]
        for part in report.slices
    ]


def save_report(report: RewardReport, folder: Path) -> tuple[Path, Path]:
    """Writes the report and its plot into a folder, and answers the two files."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(to_json(report), indent=1, sort_keys=True, allow_nan=False)
    (folder / REPORT_FILE).write_text(text + "\n", encoding="utf-8")
    plot_reliability(report, folder / PLOT_FILE)
    return folder / REPORT_FILE, folder / PLOT_FILE


def plot_reliability(report: RewardReport, path: Path) -> None:
    """What was preferred over what was predicted, before and after the temperature; areas grow with the counts."""
    figure, axes = figure_of(3.6, 3.4)
    axes.plot([0, 1], [0, 1], color=INK, linestyle=":", linewidth=1)
    parts = [("temperature 1", report.uncalibrated)]
    if report.calibrated != report.uncalibrated:
        parts.append((f"temperature {report.temperature:.3g}", report.calibrated))
    for name, calibration in parts:
        said = [part.mean_probability for part in calibration.bins]
        came = [part.positive_share for part in calibration.bins]
        line = axes.plot(said, came, linewidth=1, label=f"{name}: ECE {calibration.ece:.3f}")[0]
        sizes = [10 + 90 * part.count / (2 * report.pairs) for part in calibration.bins]
        axes.scatter(said, came, s=sizes, color=line.get_color())
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("predicted probability that the first text is preferred")
    axes.set_ylabel("share that was", fontsize=8)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    figure.savefig(path, format="png", dpi=150)


def _or_none(estimate: Estimate | None) -> str:
    return "none" if estimate is None else with_error(estimate)
