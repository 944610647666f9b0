"""What the demo found: a table for the terminal, and one page with a plot."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from examples.word_removal.arms import Arm
from ilf_client.models.runs import Metric, Run

EXACT = "exact_match"
CHOSEN = "chosen_exact"
RANDOM = "random_exact"


@dataclass(frozen=True)
class ArmResult:
    """The finished runs of one arm, one a seed."""

    arm: Arm
    runs: tuple[Run, ...]

    def over_seeds(self, metric: str, iteration: int) -> Metric | None:
        """A metric of one iteration: the mean over seeds.

        The standard error is that of the items for one seed, and for several the larger of the spread between seeds
        and the items' own. None where no run has the metric.
        """
        found = [run.iterations[iteration].metrics[metric] for run in self.runs if _has(run, iteration, metric)]
        if not found:
            return None
        within = sqrt(fmean(one.standard_error**2 for one in found) / len(found))
        between = stdev(one.value for one in found) / sqrt(len(found)) if len(found) > 1 else 0.0
        return Metric(fmean(one.value for one in found), max(within, between), sum(one.n for one in found))

    @property
    def iterations(self) -> int:
        """Iterations of the runs, number 0 counted."""
        return min(len(run.iterations) for run in self.runs)


def _has(run: Run, iteration: int, metric: str) -> bool:
    return iteration < len(run.iterations) and metric in run.iterations[iteration].metrics


def table(results: Sequence[ArmResult]) -> tuple[list[str], list[list[str]]]:
    """Headers and rows: held-out exact match before and after each iteration, in percent."""
    rounds = max(result.iterations for result in results)
    headers = ["finetuned on", "before", *(f"after iteration {index}" for index in range(1, rounds))]
    rows = [
        [result.arm.value, *(percent(result.over_seeds(EXACT, index)) for index in range(rounds))] for result in results
    ]
    return headers, rows


def choice_lines(result: ArmResult) -> list[str]:
    """How often the chosen refinement was right, beside a random one, for each iteration."""
    lines = []
    for index in range(1, result.iterations):
        chosen, drawn = result.over_seeds(CHOSEN, index), result.over_seeds(RANDOM, index)
        if chosen is None or drawn is None:
            continue
        error = sqrt(chosen.standard_error**2 + drawn.standard_error**2)
        ahead = f"{(chosen.value - drawn.value) / error:.1f} standard errors apart" if error else "no spread"
        lines.append(f"iteration {index}: chosen right {percent(chosen)}, random right {percent(drawn)}, {ahead}")
    return lines


def percent(metric: Metric | None) -> str:
    """A share with its standard error."""
    if metric is None:
        return ""
    return f"{100 * metric.value:.1f} ± {100 * metric.standard_error:.1f} %"


def page(results: Sequence[ArmResult], reports: Mapping[str, str]) -> str:
    """One self-contained HTML page: the plot, the table, and links to the reports of the runs.

    Args:
        results: The arms.
        reports: File name of the report of each run, by run name.
    """
    headers, rows = table(results)
    head = "".join(f"<th>{html.escape(text)}</th>" for text in headers)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    links = "".join(
        f'<li><a href="{html.escape(file)}">{html.escape(name)}</a></li>' for name, file in sorted(reports.items())
    )
    choices = "".join(
        f"<p>{html.escape(line)}</p>" for result in results if result.arm is Arm.ILF for line in choice_lines(result)
    )
    seeds = len(results[0].runs)
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Word removal</title>"
        "<style>body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "td,th{padding:.3rem .8rem;text-align:left;border-bottom:1px solid #ccc}img{max-width:100%}</style>"
        "<h1>Word removal</h1><p>Exact match on held-out sentences, greedy, without feedback at test time; "
        f"{seeds} seed{'s' if seeds > 1 else ''}, ± one standard error.</p>"
        f'<img alt="Exact match by iteration and arm" src="data:image/svg+xml;base64,{_plot(results)}">'
        f"<table><tr>{head}</tr>{body}</table><h2>The choice</h2>{choices}<h2>The runs</h2><ul>{links}</ul></html>"
    )


def _plot(results: Sequence[ArmResult]) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4))
    axes = figure.subplots()
    for result in results:
        points = [(index, result.over_seeds(EXACT, index)) for index in range(result.iterations)]
        measured = [(index, metric) for index, metric in points if metric is not None]
        axes.errorbar(
            [index for index, _ in measured],
            [100 * metric.value for _, metric in measured],
            yerr=[100 * metric.standard_error for _, metric in measured],
            marker="o",
            capsize=4,
            label=result.arm.value,
        )
    axes.set_xlabel("iteration")
    axes.set_ylabel("exact match (%)")
    axes.set_xticks(range(max(result.iterations for result in results)))
    axes.set_ylim(-3, 103)
    axes.grid(alpha=0.3)
    axes.legend()
    image = io.BytesIO()
    figure.savefig(image, format="svg", bbox_inches="tight")
    return base64.b64encode(image.getvalue()).decode()
