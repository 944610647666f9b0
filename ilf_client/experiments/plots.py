"""A study's plot: what was measured, with its errors, beside the paper's figures."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ilf_client.experiments.study import Study
from ilf_client.experiments.tables import Table
from ilf_client.report.plots import ACCENT, INK, svg_of

_ROW_INCHES, _FRAME_INCHES, _PANEL_INCHES, _LINES_INCHES = 0.3, 0.9, 3.6, 3.2


@dataclass(frozen=True)
class _Point:
    row: str
    line: str
    x: float
    value: float
    error: float


def plot_tables(study: Study, tables: Sequence[Table]) -> str:
    """A panel for each table, and one beside it for the paper's figures of its rows; bars are one standard error."""
    from matplotlib.figure import Figure

    columns = 2 if any(row.paper for table in tables for row in table.rows) else 1
    heights = [_LINES_INCHES if study.places else _FRAME_INCHES + _ROW_INCHES * len(table.rows) for table in tables]
    figure = Figure(figsize=(2.2 + columns * _PANEL_INCHES, sum(heights)), layout="constrained")
    grid = figure.subplots(len(tables), columns, squeeze=False, height_ratios=heights)
    draw = _draw_lines if study.places else _draw_rows
    for axes, table in zip(grid, tables, strict=True):
        rows = [row.row for row in table.rows]
        unit = ", %" if table.metric.share else ""
        draw(axes[0], _measured(study, table), rows, log=not table.metric.share)
        _dress(axes[0], "measured", table.metric.name + unit)
        if columns == 2:
            draw(axes[1], _published(study, table), rows, log=not table.metric.share)
            _dress(axes[1], "paper", study.paper_metric or table.metric.name + unit)
    return svg_of(figure, study.name)


def _measured(study: Study, table: Table) -> list[_Point]:
    scale = 100 if table.metric.share else 1
    points = []
    for row in table.rows:
        error = row.estimate.standard_error
        place = study.places.get(row.row)
        points.append(
            _Point(
                row.row,
                place.line if place else "",
                place.x if place else 0.0,
                scale * row.estimate.value,
                scale * error if math.isfinite(error) else 0.0,
            )
        )
    return points


def _published(study: Study, table: Table) -> list[_Point]:
    points = []
    for row in table.rows:
        place = study.places.get(row.row)
        if row.paper is not None:
            line = place.line if place else ""
            points.append(_Point(row.row, line, row.paper.x, row.paper.value, row.paper.standard_error))
    return points


def _draw_rows(axes: Any, points: Sequence[_Point], rows: Sequence[str], *, log: bool) -> None:
    places = {row: place for place, row in enumerate(rows)}
    axes.errorbar(
        [point.value for point in points],
        [places[point.row] for point in points],
        xerr=[point.error for point in points],
        color=ACCENT,
        marker="o",
        markersize=4,
        capsize=3,
        linewidth=1.2,
        linestyle="",
    )
    axes.set_yticks(range(len(rows)), [row.replace("$", r"\$") for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    axes.margins(x=0.15)


def _draw_lines(axes: Any, points: Sequence[_Point], rows: Sequence[str], *, log: bool) -> None:
    lines: dict[str, list[_Point]] = defaultdict(list)
    for point in points:
        lines[point.line].append(point)
    for line, found in lines.items():
        axes.errorbar(
            [point.x for point in found],
            [point.value for point in found],
            yerr=[point.error for point in found],
            marker="o",
            markersize=4,
            capsize=3,
            linewidth=1.2,
            label=line,
        )
    axes.set_xscale("log")
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    sizes = sorted({point.x for point in points})
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("training rows", fontsize=8)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, frameon=False)


def _dress(axes: Any, title: str, what: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)
    axes.set_title(f"{title}: {what}", fontsize=8, loc="left")
