"""`ilf judges`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ilf_client.cli.options import Session, work_folder_option, work_options

if TYPE_CHECKING:
    from ilf_client.models.judges import JudgesReport


@click.group()
def judges() -> None:
    """InstructRM judges: how far their scores can be believed."""


@judges.command("calibrate")
@click.argument("labelled", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--ranker",
    "ranker_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML with the keys of a run's rank.ranker (judges, template_set). Default: the server's own judges.",
)
@work_folder_option("answers and results", beside="LABELLED")
@work_options
def calibrate(session: Session, labelled: Path, ranker_file: Path | None, folder: Path | None) -> None:
    """Compare judges with people on LABELLED: accuracy, ECE, Brier, temperature and the pull of length, judge by judge.

    LABELLED is JSON lines with context, initial_output, feedback, refinement and incorporated (yes or no). Writes
    judges.json, judges.md and reliability.svg.
    """
    from ilf_client.cli.progress import row_count
    from ilf_client.config import build, read_yaml
    from ilf_client.files import new_file
    from ilf_client.models.inference import RankerSpec
    from ilf_client.report.evaluation_plots import write_reliability
    from ilf_client.report.evaluation_tables import judge_rows, markdown

    ranker = build(RankerSpec, read_yaml(ranker_file), folder=ranker_file.parent) if ranker_file else None
    folder = folder or labelled.with_suffix(".judges")
    with session.client() as client, row_count("rows judged") as progress:
        report = client.evaluation.calibrate_judges(labelled, folder, ranker=ranker, progress=progress)
    with new_file(folder / "judges.md") as stream:
        stream.write(markdown(judge_rows(report)))
    write_reliability(report, folder / "reliability.svg")
    session.show(report, lambda: _print(report, folder))


def _print(report: JudgesReport, folder: Path) -> None:
    from ilf_client.cli.output import print_table
    from ilf_client.report.evaluation_tables import judge_rows, with_error

    for reason, count in report.dropped.items():
        click.echo(f"left out: {count} rows, {reason}")
    click.echo(f"{report.rows} rows of {report.contexts} contexts; incorporated: {with_error(report.incorporated)}")
    if report.length_slope is not None:
        click.echo(f"one more character makes it likelier to be incorporated by {with_error(report.length_slope)}")
    click.echo()
    print_table(*judge_rows(report))
    click.echo(f"\nresults are in {folder}")
