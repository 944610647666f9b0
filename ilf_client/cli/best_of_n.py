"""`ilf best-of-n`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ilf_client.cli.options import Session, work_folder_option, work_options

if TYPE_CHECKING:
    from ilf_client.models.evaluation import BestOfNResult


@click.command("best-of-n")
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY.KEY=VALUE", help="Override a value; VALUE is YAML.")
@work_folder_option("samples, scores and results", beside="CONFIG")
@work_options
def best_of_n(session: Session, config: Path, overrides: Sequence[str], folder: Path | None) -> None:
    """Sample N outputs for each context of a dataset, score them, keep the best.

    The keys of CONFIG are the fields of BestOfNSpec: dataset, policy, n, reward_models or ranker, and how to sample.
    Writes chosen.jsonl, result.json and curve.svg: the expected score of the best of k for every k up to N, with its
    standard error and the bound of its divergence from the policy.

    Example: ilf best-of-n best.yaml --set n=16 --set reward_models=[rm]
    """
    from ilf_client.cli.progress import row_count
    from ilf_client.config import apply_overrides, build, read_yaml
    from ilf_client.evaluation.configs import best_of_n_at_home
    from ilf_client.models.evaluation import BestOfNSpec
    from ilf_client.report.evaluation_plots import write_curve

    spec = build(BestOfNSpec, apply_overrides(read_yaml(config), overrides), folder=config.parent)
    spec = best_of_n_at_home(spec, config.parent)
    folder = folder or config.with_suffix(".work")
    with session.client() as client, row_count("rows sampled and scored") as progress:
        result = client.evaluation.best_of_n(spec, folder, progress=progress)
    write_curve(result, folder / "curve.svg")
    session.show(result, lambda: _print(result, folder))


def _print(result: BestOfNResult, folder: Path) -> None:
    from ilf_client.cli.output import print_table
    from ilf_client.report.evaluation_tables import curve_rows

    click.echo(f"{result.policy}: best of {result.n} for {result.items} contexts")
    for reason, count in result.dropped.items():
        click.echo(f"left out: {count} rows, {reason}")
    click.echo()
    print_table(*curve_rows(result))
    click.echo(f"\nwrote {result.chosen}, {folder / 'result.json'} and {folder / 'curve.svg'}")
