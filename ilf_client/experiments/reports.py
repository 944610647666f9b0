"""A study's results as text, Markdown, JSON and a plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ilf_client.evaluation.files import as_json, write_json
from ilf_client.experiments.plots import plot_tables
from ilf_client.experiments.runner import Results
from ilf_client.experiments.study import Metric, PaperFigure, Study
from ilf_client.experiments.tables import Table, TableRow, tables_of
from ilf_client.files import new_file
from ilf_client.humanize import duration
from ilf_client.report.evaluation_tables import markdown
from ilf_common.statistics.values import Estimate


def write_report(study: Study, results: Results, folder: Path, heading: str) -> list[Path]:
    """Writes `<study>.md`, `.json` and, where anything was measured, `.svg`; answers the files."""
    tables = tables_of(study, results.measured)
    files = [folder / f"{study.name}.md", folder / f"{study.name}.json"]
    plotted = folder / f"{study.name}.svg"
    with new_file(files[0]) as stream:
        stream.write(as_markdown(study, results, heading, plotted.name if tables else ""))
    write_json(files[1], as_data(study, results, heading))
    if tables:
        with new_file(plotted) as stream:
            stream.write(plot_tables(study, tables))
        files.append(plotted)
    return files


def as_markdown(study: Study, results: Results, heading: str, plot: str = "") -> str:
    """The report as Markdown."""
    parts = [f"# {study.name}", study.question, *([heading] if heading else [])]
    for table in tables_of(study, results.measured):
        parts += [f"## {table.metric.name}", markdown(cells(study, table)).strip()]
    parts += [f"- {line}" for line in lines(study, results)]
    if plot:
        parts.append(f"![{study.name}]({plot})")
    return "\n\n".join(parts) + "\n"


def as_data(study: Study, results: Results, heading: str) -> dict[str, Any]:
    """The report as JSON types."""
    tables = [
        {
            **as_json(table),
            "rows": [{**as_json(row), "verdict": row.verdict, **_effect(row.difference)} for row in table.rows],
        }
        for table in tables_of(study, results.measured)
    ]
    return {
        "study": study.name,
        "question": study.question,
        "of": heading,
        "tables": tables,
        "notes": lines(study, results),
        "missing": [{"row": arm.row, "seed": arm.seed} for arm in results.missing],
        "seconds": results.seconds,
    }


def cells(study: Study, table: Table) -> tuple[list[str], list[list[object]]]:
    """Headers and rows of one table."""
    headers = ["", table.metric.name, "n", "seeds"]
    compared = any(row.difference for row in table.rows)
    if compared:
        headers += ["difference", "to", "could have seen", "tells"]
    papers = any(row.paper for row in table.rows)
    if papers:
        headers.append(f"paper: {study.paper_metric or table.metric.name}")
    made: list[list[object]] = []
    for row in table.rows:
        line: list[object] = [row.row, shown(row.estimate, table.metric), row.estimate.n, row.seeds]
        if compared:
            line += _compared(row, table.metric)
        if papers:
            line.append(_paper(row.paper))
        made.append(line)
    return headers, made


def lines(study: Study, results: Results) -> list[str]:
    """What stands below the tables."""
    said = list(study.notes(results.measured)) if study.notes and results.measured else []
    said += list(results.failures)
    missing = len(results.missing)
    if missing:
        said.append(f"{missing} of {len(study.arms)} arms have no result yet")
    said.append(f"made in {duration(results.seconds)}")
    return said


def shown(estimate: Estimate, metric: Metric, *, signed: bool = False) -> str:
    """A value with its standard error, shares in percent."""
    sign = "+" if signed else ""
    if metric.share:
        return f"{100 * estimate.value:{sign}.1f} ± {_number(100 * estimate.standard_error, 1)} %"
    return f"{estimate.value:{sign}.3f} ± {_number(estimate.standard_error, 3)}"


def _compared(row: TableRow, metric: Metric) -> list[object]:
    if row.difference is None:
        return ["", "", "", ""]
    return [shown(row.difference, metric, signed=True), row.against, _least(row.difference, metric), row.verdict]


def _least(difference: Estimate, metric: Metric) -> str:
    effect = difference.smallest_detectable_effect
    return f"{_number(100 * effect, 1)} %" if metric.share else _number(effect, 3)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "?"


def _effect(difference: Estimate | None) -> dict[str, Any]:
    effect = None if difference is None else as_json(difference.smallest_detectable_effect)
    return {"smallest_detectable_effect": effect}


def _paper(figure: PaperFigure | None) -> str:
    if figure is None:
        return ""
    return f"{figure.value:g} ± {figure.standard_error:g}" if figure.standard_error else f"{figure.value:g}"


def summary(reports: Sequence[tuple[Study, Results]], heading: str) -> str:
    """All reports on one page."""
    parts = [f"# Experiments\n\n{heading}\n"]
    for study, results in reports:
        body = as_markdown(study, results, "", f"{study.name}.svg" if results.measured else "")
        parts.append("#" + body.replace("\n## ", "\n### "))
    return "\n".join(parts)
