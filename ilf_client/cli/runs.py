"""`ilf runs`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ilf_client.cli.options import Session, connection_options, service_options, work_options
from ilf_client.cli.output import print_table
from ilf_client.cli.samples import list_samples
from ilf_client.humanize import since
from ilf_client.models.runs import Run, RunState

_STATES = [state.value for state in RunState if state is not RunState.UNSPECIFIED]


@click.group()
def runs() -> None:
    """Runs of the loop."""


runs.add_command(list_samples)


@runs.command("list")
@click.option("--state", "states", multiple=True, type=click.Choice(_STATES), help="Only these; may be given again.")
@click.option("--text", default="", help="Only runs with this in their name or policy.")
@service_options
def list_runs(session: Session, states: Sequence[str], text: str) -> None:
    """Runs, the newest first."""
    with session.client() as client:
        found = list(client.runs.list(states=[RunState(state) for state in states], text=text, timeout=session.timeout))
    session.show(
        found,
        lambda: print_table(
            ["run", "state", "iteration", "policy", "age", "waits for"],
            [
                [
                    run.name.removeprefix("runs/"),
                    run.state,
                    _newest_iteration(run),
                    run.policy,
                    since(run.create_time),
                    run.waiting.reason if run.waiting else "",
                ]
                for run in found
            ],
        ),
    )


@runs.command("show")
@click.argument("run")
@service_options
def show_run(session: Session, run: str) -> None:
    """One run: its stages, metrics, what it waits for, and its error."""
    with session.client() as client:
        found = client.runs.get(run, timeout=session.timeout)
    session.show(found, lambda: _describe(found))


@runs.command("watch")
@click.argument("run")
@service_options
def watch_run(session: Session, run: str) -> None:
    """Follow a run to its end; exit code 1 unless it succeeds."""
    from ilf_client.cli.watching import end, follow

    with session.client() as client:
        end(session, follow(session, client, run))


@runs.command("cancel")
@click.argument("run")
@service_options
def cancel_run(session: Session, run: str) -> None:
    """Stop a run, its finetune job too."""
    with session.client() as client:
        found = client.runs.cancel(run, timeout=session.timeout)
    session.show(found, lambda: click.echo(f"{found.name} is {found.state.value}"))


@runs.command("resume")
@click.argument("run")
@click.option("--watch", is_flag=True, help="Follow it to its end.")
@service_options
def resume_run(session: Session, run: str, watch: bool) -> None:
    """Continue a failed or cancelled run from its last finished shard."""
    from ilf_client.cli.watching import end, follow

    with session.client() as client:
        found = client.runs.resume(run, timeout=session.timeout)
        if watch:
            end(session, follow(session, client, run))
            return
    session.show(found, lambda: click.echo(f"{found.name} is {found.state.value}"))


@runs.command("explain")
@click.argument("run")
@service_options
def explain_run(session: Session, run: str) -> None:
    """Why each shard was computed or reused."""
    with session.client() as client:
        shards = list(client.runs.explain(run, timeout=session.timeout))
    session.show(
        shards,
        lambda: print_table(
            ["it", "stage", "shard", "rows", "bad", "outcome", "key", "why"],
            [
                [s.iteration, s.stage, s.shard, s.rows, s.bad_rows or "", s.outcome, s.key[:12], s.reason]
                for s in shards
            ],
        ),
    )


@runs.command("report")
@click.argument("run")
@click.option(
    "-o",
    "--output",
    "target",
    default="report.html",
    show_default=True,
    metavar="FILE|json",
    help="The HTML file to write, or `json` for its data on the standard output.",
)
@click.option(
    "--samples",
    "sample_rows",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="Sample rows per iteration.",
)
@connection_options
def report_run(session: Session, run: str, target: str, sample_rows: int) -> None:
    """Write one self-contained HTML file: stages, metrics, ranker agreement, sample rows."""
    from ilf_client.report.collect import collect
    from ilf_client.report.page import write_page

    with session.client() as client:
        report = collect(client, run, sample_rows)
    if target == "json":
        from ilf_client.cli.output import print_json

        print_json(report)
        return
    write_page(report, Path(target))
    click.echo(f"wrote {target}")


@runs.command("compare")
@click.argument("first")
@click.argument("second")
@click.option("--iteration", "iterations", nargs=2, type=int, help="One of each. Default: the newest with metrics.")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the differences into this SVG file."
)
@work_options
def compare_two_runs(
    session: Session, first: str, second: str, iterations: tuple[int, int] | None, plot: Path | None
) -> None:
    """The metrics of two runs side by side, with the differences and their errors.

    Where both were evaluated on the same dataset, items are compared with themselves.
    """
    from ilf_client.report.evaluation_plots import write_compared
    from ilf_client.report.evaluation_tables import compared_rows

    one, other = iterations or (None, None)
    with session.client() as client:
        found = client.evaluation.compare_runs(first, second, first_iteration=one, second_iteration=other)
    if plot is not None:
        write_compared(found, plot)
    session.show(found, lambda: print_table(*compared_rows(found)))


@runs.command("metrics")
@click.argument("run")
@click.option(
    "--to",
    "tracker",
    type=click.Choice(["tensorboard", "wandb", "mlflow"]),
    help="Write them there too; needs its library: pip install 'ilf[tracking]'.",
)
@click.option("--at", "target", default="", help="tensorboard: a folder. wandb: a project. mlflow: a tracking URI.")
@service_options
def show_metrics(session: Session, run: str, tracker: str | None, target: str) -> None:
    """A run's metrics by iteration; --to writes them where experiments are tracked."""
    with session.client() as client:
        found = client.runs.get(run, timeout=session.timeout)
    if tracker is not None:
        from ilf_client.tracking import publish_metrics

        click.echo(f"wrote {publish_metrics(found, tracker, target)}", err=True)
    session.show({i.index: i.metrics for i in found.iterations if i.metrics}, lambda: _print_metrics(found))


@runs.command("export")
@click.argument("run")
@click.option(
    "--kind",
    type=click.Choice(["sft", "preference", "feedback", "open", "comparisons", "reviews", "argilla"]),
    default="sft",
    show_default=True,
    help="sft: prompt, completion, weight. preference: prompt, chosen, rejected. What people answered: feedback; "
    "comparisons, as preferences; reviews, as `ilf judges calibrate` reads them. Feedback tasks that `ilf feedback "
    "import` brings back: open, with empty fields to be filled in; argilla, all as its records.",
)
@click.option(
    "--rejected",
    type=click.Choice(["initial_output", "worst"]),
    default="initial_output",
    show_default=True,
    help="preference: what the chosen refinement is preferred to.",
)
@click.option("--iteration", type=click.IntRange(min=1), help="Default: all iterations.")
@click.option(
    "-o", "--output", "target", default="-", metavar="FILE", help="A .jsonl, .csv or .parquet file; .json for argilla."
)
@connection_options
def export_run(session: Session, run: str, kind: str, rejected: str, iteration: int | None, target: str) -> None:
    """Write a run's training data with TRL's column names, or what people have answered."""
    from ilf_client.export import export_rows, write_records, write_rows

    with session.client() as client:
        found = client.runs.get(run, timeout=session.timeout)
        if kind == "argilla":
            write_records(client, found, target)
            return
        rows = export_rows(client, found, kind, iteration=iteration, rejected=rejected)
        count = write_rows(rows, kind, target)
    if target != "-":
        click.echo(f"wrote {count} rows to {target}")


def _newest_iteration(run: Run) -> str:
    return str(run.iterations[-1].index) if run.iterations else ""


def _describe(run: Run) -> None:
    from ilf_client.stages import stage_cells, waiting_line

    click.echo(f"{run.name}  {run.state.value}  started {since(run.create_time)} ago")
    if run.waiting:
        click.echo(waiting_line(run))
    if run.error:
        click.echo(f"error: {run.error.message} [{run.error.reason}]")
    if run.policy:
        click.echo(f"newest policy: {run.policy}")
    rows = [[i.index, s.stage, *stage_cells(s)] for i in run.iterations for s in i.stages]
    print_table(["it", "stage", "state", "rows", "bad", "rate", "left", "time"], rows)
    if any(iteration.metrics for iteration in run.iterations):
        click.echo()
        _print_metrics(run)


def _print_metrics(run: Run) -> None:
    metrics = [
        [i.index, name, f"{m.value:.4g}", f"±{m.standard_error:.2g}", m.n]
        for i in run.iterations
        for name, m in i.metrics.items()
    ]
    print_table(["it", "metric", "value", "error", "n"], metrics)
