"""The report's plots as inline SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ilf_client.models.runs import Iteration, Metric
from ilf_client.report.agreement import Agreement

INK, ACCENT, _PALE = "#374151", "#2563eb", "#bfdbfe"


def plot_metric(name: str, points: Sequence[tuple[int, Metric]]) -> str:
    """A metric over the iterations, with its standard errors."""
    figure, axes = figure_of(3.4, 2.4)
    indices = [index for index, _ in points]
    values = [metric.value for _, metric in points]
    errors = [metric.standard_error for _, metric in points]
    axes.errorbar(indices, values, yerr=errors, color=ACCENT, marker="o", markersize=4, capsize=3, linewidth=1.2)
    axes.set_title(plain(name), fontsize=9, loc="left")
    axes.set_xlabel("iteration")
    axes.set_xticks(indices)
    axes.margins(x=0.15, y=0.2)
    return svg_of(figure, f"metric-{name}")


def plot_stages(iterations: Sequence[Iteration]) -> str:
    """When each stage ran, in minutes since the first one began; empty where none has begun."""
    bars = [
        (f"{i.index} {s.stage}", s.start_time, s.end_time or s.start_time)
        for i in iterations
        for s in i.stages
        if s.start_time is not None
    ]
    if not bars:
        return ""
    zero: datetime = min(start for _, start, _ in bars)
    figure, axes = figure_of(7.2, 0.5 + 0.24 * len(bars))
    for row, (_, start, end) in enumerate(bars):
        left = (start - zero).total_seconds() / 60
        width = (end - start).total_seconds() / 60
        axes.barh(row, width, left=left, color=ACCENT, height=0.6)
        seconds = (end - start).total_seconds()
        axes.text(left + width, row, f" {seconds:,.1f} s", va="center", fontsize=7, color=INK)
    axes.set_yticks(range(len(bars)), [plain(name) for name, _, _ in bars])
    axes.invert_yaxis()
    axes.set_xlabel("minutes")
    axes.margins(x=0.12)
    return svg_of(figure, "stages")


def plot_agreement(index: int, agreement: Agreement) -> str:
    """How often each judge makes the ensemble's choice, beside chance; empty without judges."""
    if not agreement.judges:
        return ""
    figure, axes = figure_of(4.2, 0.7 + 0.28 * len(agreement.judges))
    rows = range(len(agreement.judges))
    axes.barh(rows, [judge.same_choice for judge in agreement.judges], color=_PALE, height=0.6)
    axes.axvline(agreement.chance, color=INK, linestyle=":", linewidth=1)
    axes.set_yticks(rows, [plain(judge.judge) for judge in agreement.judges])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("same choice as the ensemble (dotted: chance)")
    return svg_of(figure, f"agreement-{index}")


def figure_of(width: float, height: float) -> tuple[Any, Any]:
    """An empty figure of so many inches and its axes, in the style of all plots."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)
    axes.xaxis.label.set_fontsize(8)
    return figure, axes


def svg_of(figure: Any, salt: str) -> str:
    """The figure's SVG element; ids are salted, so that several fit into one page."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = buffer.getvalue()
    element = text[text.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    return _with_own_ids(element, salt)


def _with_own_ids(element: str, salt: str) -> str:
    """Prefixes the fixed ids (`figure_1`, `axes_1`, …), which every plot has."""
    prefix = re.sub(r"[^a-zA-Z0-9]", "-", salt)
    element = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', element)
    return re.sub(r'(url\(#|xlink:href="#)', rf"\1{prefix}-", element)


def plain(text: str) -> str:
    """Text that matplotlib does not read as mathematics, in a length that fits."""
    return text.replace("$", r"\$")[:60]
