"""Charts as SVG elements that fit into a page: its colours by CSS variables, marks that are links, no style, no script.

Drawing takes about a tenth of a second of a thread; `draw` is not to be called on the event loop.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from markupsafe import Markup, escape

from ilf_client.models.runs import Iteration, Metric, RunSample
from ilf_common.statistics.values import ReliabilityBin

_INK, _ACCENT, _LINE = "currentColor", "var(--accent)", "var(--line)"
_EDGE = "var(--edge)"
# What the renderer puts before addresses without a host.
_BASE = "https://vega.github.io/vega-datasets/"
# A link, and the name of the mark in it, which is shown when pointed at; the renderer has escaped it.
_LINKED = re.compile(r'<a href="[^"]*">(?=<path aria-label="([^"]*)")')


@dataclass(frozen=True)
class Point:
    """A mark of a chart.

    Attributes:
        x, y: Where it is.
        label: What a reader hears and sees when pointing at it.
        href: Where it leads, an absolute path of this site; empty leads nowhere.
        low, high: The ends of its error bar.
        chosen: Stands out.
    """

    x: float
    y: float
    label: str
    href: str = ""
    low: float | None = None
    high: float | None = None
    chosen: bool = False


@dataclass(frozen=True)
class Chart:
    """What is drawn.

    Attributes:
        kind: "line" joins the points, "scatter" does not, "reliability" adds the diagonal of a perfect judge.
        title: What a reader hears of the whole.
        x_title, y_title: Of the axes.
        points: The marks.
        whole_x: x counts something: its axis has whole numbers.
        width, height: Of the plot without its axes, in pixels.
    """

    kind: str
    title: str
    x_title: str
    y_title: str
    points: tuple[Point, ...]
    whole_x: bool = False
    width: int = 300
    height: int = 160


def metric_chart(name: str, points: Sequence[tuple[int, Metric]], hrefs: Sequence[str]) -> Chart:
    """A metric over the iterations with its standard errors; each point leads to `hrefs`."""
    marks = tuple(
        Point(
            index,
            metric.value,
            f"iteration {index}: {metric.value:.4g} ± {metric.standard_error:.2g} (n = {metric.n})",
            href,
            metric.value - metric.standard_error,
            metric.value + metric.standard_error,
        )
        for (index, metric), href in zip(points, hrefs, strict=True)
        if math.isfinite(metric.value) and math.isfinite(metric.standard_error)
    )
    return Chart("line", f"{name} by iteration", "iteration", name, marks, whole_x=True)


def metrics_by_name(iterations: Sequence[Iteration]) -> dict[str, list[tuple[int, Metric]]]:
    """The points of each metric, in the order of their iterations."""
    found: dict[str, list[tuple[int, Metric]]] = {}
    for iteration in iterations:
        for name, metric in iteration.metrics.items():
            found.setdefault(name, []).append((iteration.index, metric))
    return found


def sample_chart(samples: Sequence[RunSample], hrefs: Sequence[str], y: str) -> Chart:
    """Score of the chosen refinement against "spread", "missing mass" or "length"; each point leads to `hrefs`."""
    marks = []
    for sample, href in zip(samples, hrefs, strict=True):
        best = sample.best_index
        if best is None:
            continue
        candidate = sample.candidates[best]
        heights = {
            "spread": candidate.score.spread,
            "missing mass": candidate.score.missing_mass,
            "length": float(len(candidate.text)),
        }
        if math.isfinite(candidate.score.score) and math.isfinite(heights[y]):
            label = f"{sample.item_id}: score {candidate.score.score:.4g}, {y} {heights[y]:.4g}"
            marks.append(Point(candidate.score.score, heights[y], label, href))
    return Chart(
        "scatter", f"{y} against score", "score of the chosen refinement", y, tuple(marks), width=380, height=220
    )


def reliability_chart(title: str, bins: Sequence[ReliabilityBin], hrefs: Sequence[str]) -> Chart:
    """What scores say against what people say; each point leads to `hrefs`. Error bars are binomial."""
    marks = []
    for part, href in zip(bins, hrefs, strict=True):
        error = math.sqrt(part.positive_share * (1 - part.positive_share) / part.count)
        label = (
            f"scores {part.low:.1f} to {part.high:.1f}: mean {part.mean_probability:.2f}, "
            f"people {part.positive_share:.2f} (n = {part.count})"
        )
        low, high = max(0.0, part.positive_share - error), min(1.0, part.positive_share + error)
        marks.append(Point(part.mean_probability, part.positive_share, label, href, low, high))
    return Chart("reliability", title, "score", "incorporated, people say", tuple(marks), width=300, height=300)


def loss_chart(points: Sequence[tuple[int, float]]) -> Chart:
    """The loss of a training job by step."""
    marks = tuple(Point(step, loss, f"step {step}: loss {loss:.4g}") for step, loss in points if math.isfinite(loss))
    return Chart("line", "loss by step", "step", "loss", marks, whole_x=True, width=380, height=220)


def stage_bars(iterations: Sequence[Iteration], now: datetime) -> Chart | None:
    """When each stage ran, in minutes since the first one began; None where none has begun."""
    begun = [(i.index, s) for i in iterations for s in i.stages if s.start_time is not None]
    if not begun:
        return None
    zero = min(stage.start_time for _, stage in begun if stage.start_time)
    marks = []
    for row, (index, stage) in enumerate(begun):
        assert stage.start_time is not None
        start = (stage.start_time - zero).total_seconds() / 60
        end = ((stage.end_time or now) - zero).total_seconds() / 60
        marks.append(Point(row, row, f"{index} {stage.stage}", "", start, end, stage.end_time is None))
    height = 18 * len(marks)
    return Chart("bars", "when each stage ran", "minutes", "", tuple(marks), width=520, height=height)


@lru_cache(maxsize=64)
def draw(chart: Chart) -> Markup:
    """The chart as one SVG element, or an empty text where there is nothing to draw.

    The element is safe inside a page: texts are escaped by the renderer, and links are those of the points.
    """
    if not chart.points:
        return Markup()
    import vl_convert

    return _cleaned(vl_convert.vegalite_to_svg(_styled(_layers(chart), chart).to_dict()), chart.title)


def _layers(chart: Chart) -> Any:
    import altair as alt

    data = alt.InlineData(values=[asdict(point) for point in chart.points])
    if chart.kind == "bars":
        rows = alt.Y("label:N", title=None, sort=None, axis=alt.Axis(labelLimit=140))
        times = alt.X("low:Q", title=chart.x_title)
        colour = alt.condition("datum.chosen", alt.value("var(--warn)"), alt.value(_ACCENT))
        return alt.layer(alt.Chart(data).mark_bar(size=10).encode(x=times, x2="high:Q", y=rows, color=colour))
    axis = _whole_axis(chart) if chart.whole_x else alt.Axis(tickCount=8)
    xs, ys = _ranges(chart)
    x = alt.X("x:Q", title=chart.x_title, axis=axis, scale=alt.Scale(domain=xs))
    scale = alt.Scale(domain=ys)
    base = alt.Chart(data).encode(x=x)
    height = alt.Y("y:Q", title=chart.y_title, scale=scale)
    layers = []
    if chart.kind == "reliability":
        corners = alt.InlineData(values=[{"x": 0, "y": 0}, {"x": 1, "y": 1}])
        layers.append(
            alt.Chart(corners).mark_line(color=_EDGE, strokeDash=[4, 4], strokeWidth=1.5).encode(x=x, y=height)
        )
    if chart.kind == "line" and len(chart.points) > 1:
        layers.append(base.mark_line(color=_ACCENT, strokeWidth=1.5).encode(y=height))
    if any(point.low is not None for point in chart.points):
        bars = base.mark_rule(color=_ACCENT).encode(y=alt.Y("low:Q", title=chart.y_title, scale=scale), y2="high:Q")
        layers.append(bars)
    if len(chart.points) <= 60 or chart.kind != "line":
        marks = base.mark_point(filled=True, size=45, opacity=0.75, color=_ACCENT)
        encoded = marks.encode(y=height, description="label:N")
        linked = all(point.href for point in chart.points)
        layers.append(encoded.encode(href="href:N") if linked else encoded)
    return alt.layer(*layers)


def _whole_axis(chart: Chart) -> Any:
    """Whole numbers: each point's own where they are few."""
    import altair as alt

    own = sorted({point.x for point in chart.points})
    return alt.Axis(format="d", values=own) if len(own) <= 12 else alt.Axis(format="d", tickCount=8)


def _ranges(chart: Chart) -> tuple[list[float], list[float]]:
    """The ends of both axes: all points with their errors, and a little room around them."""
    if chart.kind == "reliability":
        return [0.0, 1.0], [0.0, 1.0]
    heights = [end for point in chart.points for end in (point.y, point.low, point.high) if end is not None]
    return _with_room([point.x for point in chart.points]), _with_room(heights)


def _with_room(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or max(abs(high) * 0.1, 0.5)
    return [low - room, high + room]


def _styled(layers: Any, chart: Chart) -> Any:
    colours = {"labelColor": _INK, "titleColor": _INK, "domainColor": _LINE, "tickColor": _LINE, "gridColor": _LINE}
    styled = layers.properties(width=chart.width, height=chart.height)
    styled = styled.configure(background="transparent", font="sans-serif").configure_view(stroke=None)
    return styled.configure_axis(gridOpacity=0.35, labelAngle=0, titleFontWeight="normal", labelFontSize=11, **colours)


def _cleaned(svg: str, title: str) -> Markup:
    """Scales with the page, has a name, and leads to this site."""
    head = re.match(r"<svg[^>]*?viewBox=\"([^\"]+)\"[^>]*>", svg)
    if head is None:
        raise ValueError("the renderer answered no SVG element with a viewBox")
    width = head[1].split()[2]
    start = f'<svg class="chart" role="group" aria-label="{escape(title)}" viewBox="{head[1]}" width="{width}">'
    body = svg[head.end() :].replace("xlink:href=", "href=").replace(f'href="{_BASE}/', 'href="/')
    return Markup(start + _LINKED.sub(r"\g<0><title>\1</title>", body))
