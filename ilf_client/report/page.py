"""Renders a report. Every text of a run is untrusted: the template escapes all of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ilf_client.config import plain
from ilf_client.files import new_file
from ilf_client.humanize import between, duration
from ilf_client.models.runs import Metric
from ilf_client.report.collect import Report
from ilf_client.report.plots import plot_agreement, plot_metric, plot_stages
from ilf_common.statistics.values import Estimate

_TEMPLATE = "page.html.jinja"


def write_page(report: Report, path: Path) -> None:
    """Writes the page whole, or not at all."""
    page = render_page(report)
    with new_file(path) as stream:
        stream.write(page)


def render_page(report: Report) -> str:
    """The page as one HTML document without scripts and without anything to fetch."""
    import yaml
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.0f} %"
    environment.filters["number"] = lambda value: "n/a" if value is None else f"{value:.4g}"
    environment.globals.update(between=between, duration=duration)
    metrics = _metrics(report)
    return environment.get_template(_TEMPLATE).render(
        report=report,
        run=report.run,
        spec=yaml.safe_dump(plain(report.run.spec), sort_keys=False, allow_unicode=True),
        stages_plot=Markup(plot_stages([part.iteration for part in report.iterations])),
        metric_rows=_metric_rows(metrics, report),
        metric_plots=[Markup(plot_metric(name, points)) for name, points in metrics.items()],
        agreement_plots={
            part.iteration.index: Markup(plot_agreement(part.iteration.index, part.agreement))
            for part in report.iterations
            if part.agreement is not None
        },
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )


@dataclass(frozen=True)
class _MetricRow:
    """A metric of an iteration, and its change since the first one that has it."""

    iteration: int
    policy: str
    name: str
    metric: Metric
    change: Estimate | None


def _metric_rows(metrics: dict[str, list[tuple[int, Metric]]], report: Report) -> list[_MetricRow]:
    first = {name: points[0] for name, points in metrics.items()}
    return [
        _MetricRow(
            part.iteration.index,
            part.iteration.policy,
            name,
            metric,
            None if part.iteration.index == first[name][0] else _estimate(metric) - _estimate(first[name][1]),
        )
        for part in report.iterations
        for name, metric in part.iteration.metrics.items()
    ]


def _estimate(metric: Metric) -> Estimate:
    return Estimate(metric.value, metric.standard_error, metric.n)


def _metrics(report: Report) -> dict[str, list[tuple[int, Metric]]]:
    """The points of each metric, in the order of their iterations."""
    found: dict[str, list[tuple[int, Metric]]] = {}
    for part in report.iterations:
        for name, metric in part.iteration.metrics.items():
            found.setdefault(name, []).append((part.iteration.index, metric))
    return found
