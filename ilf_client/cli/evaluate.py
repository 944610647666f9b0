"""`ilf eval`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ilf_client.cli.options import Session, work_folder_option, work_options

if TYPE_CHECKING:
    from ilf_client.models.evaluation import EvaluationResult


@click.command("eval")
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY.KEY=VALUE", help="Override a value; VALUE is YAML.")
@work_folder_option("answers and results", beside="CONFIG")
@work_options
def evaluate(session: Session, config: Path, overrides: Sequence[str], folder: Path | None) -> None:
    """Measure arms on the rows of a dataset, each figure with its standard error, n and smallest detectable effect.

    The keys of CONFIG are the fields of EvaluationSpec: dataset, arms (policies, columns, best-of-N pools, files), and
    what is measured. Writes result.json, items.jsonl, table.md and differences.svg. Judgements of an evaluator that
    helped to make what it judges are labelled self-judged and stay out of the table.

    Example: ilf eval eval.yaml --set arms.0.policy=my-run/it-2
    """
    from ilf_client.cli.progress import row_count
    from ilf_client.config import apply_overrides, build, read_yaml
    from ilf_client.evaluation.configs import evaluation_at_home
    from ilf_client.files import new_file
    from ilf_client.models.evaluation import EvaluationSpec
    from ilf_client.report.evaluation_plots import write_differences
    from ilf_client.report.evaluation_tables import figure_rows, markdown

    spec = build(EvaluationSpec, apply_overrides(read_yaml(config), overrides), folder=config.parent)
    spec = evaluation_at_home(spec, config.parent)
    folder = folder or config.with_suffix(".work")
    with session.client() as client, row_count("rows measured") as progress:
        result = client.evaluation.evaluate(spec, folder, progress=progress)
    with new_file(folder / "table.md") as stream:
        stream.write(markdown(figure_rows(result)))
    write_differences(result, folder / "differences.svg")
    session.show(result, lambda: _print(result, folder))


def _print(result: EvaluationResult, folder: Path) -> None:
    from ilf_client.cli.output import print_table
    from ilf_client.report.evaluation_tables import figure_rows, with_error

    for name, label in result.arms.items():
        click.echo(f"{name}: {label}")
    for reason, count in result.dropped.items():
        click.echo(f"left out: {count}, {reason}")
    click.echo()
    print_table(*figure_rows(result))
    for figure in result.figures:
        if figure.self_judged:
            name = f"{figure.measure} of {figure.arm} against {figure.rival}"
            click.echo(f"self-judged, not in the table: {name}: {with_error(figure.estimate)}; {figure.self_judged}")
    click.echo(f"\nresults are in {folder}")
