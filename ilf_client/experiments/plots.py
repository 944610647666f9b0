"""A study's plot: what was measured, with its errors, beside the paper's figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ilf_client.experiments.study import Study
from ilf_client.experiments.tables import Table
from ilf_client.report.plots import ACCENT, INK, svg_of

_ROW_INCHES, _FRAME_INCHES, _PANEL_INCHES = 0.3, 1.0, 3.4


def plot_tables(study: Study, tables: Sequence[Table]) -> str:
    """One panel a table, and one beside it for the paper's figures of its rows; bars are one standard error."""
    from matplotlib.figure import Figure

    panels = [(table, paper) for table in tables for paper in (False, True) if not paper or _has_paper(table)]
    height = _FRAME_INCHES + _ROW_INCHES * max(len(table.rows) for table in tables)
    figure = Figure(figsize=(2.2 + _PANEL_INCHES * len(panels), height), layout="constrained")
    for axes, (table, paper) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _panel(axes, study, table, paper=paper)
        if (table, paper) != panels[0]:
            axes.set_yticklabels([])
    return svg_of(figure, study.name)


def _has_paper(table: Table) -> bool:
    return any(row.paper for row in table.rows)


def _panel(axes: Any, study: Study, table: Table, *, paper: bool) -> None:
    scale = 100 if table.metric.share else 1
    for place, row in enumerate(table.rows):
        if not paper:
            error = row.estimate.standard_error
            _point(axes, scale * row.estimate.value, scale * error if math.isfinite(error) else 0, place, ACCENT)
        elif row.paper is not None:
            _point(axes, row.paper.value, row.paper.standard_error, place, INK)
    axes.set_yticks(range(len(table.rows)), [row.row.replace("$", r"\$") for row in table.rows], fontsize=8)
    axes.set_ylim(len(table.rows) - 0.5, -0.5)
    axes.margins(x=0.15)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)
    what = (study.paper_metric or table.metric.name) if paper else table.metric.name
    axes.set_title("paper" if paper else "measured", fontsize=9, loc="left")
    axes.set_xlabel(what + (" (%)" if table.metric.share else ""), fontsize=8)


def _point(axes: Any, value: float, error: float, place: int, color: str) -> None:
    axes.errorbar([value], [place], xerr=[error], color=color, marker="o", markersize=4, capsize=3, linewidth=1.2)
