"""`ilf experiment`."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import click

from ilf_client.cli.failures import FAILED
from ilf_client.cli.options import Session, output_options, service_options
from ilf_client.cli.output import print_table
from ilf_common.errors import FailedPreconditionError, InvalidArgumentError

F = TypeVar("F", bound=Callable[..., Any])
_FILE = click.Path(exists=True, path_type=Path)
_folder_option = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".ilf/experiments"),
    show_default=True,
    help="Where models, finished steps and reports lie.",
)


def _bench_options(command: F) -> F:
    options = [
        click.option(
            "--size",
            type=click.Choice(["smoke", "small", "paper"]),
            default="small",
            show_default=True,
            help="smoke: does it run at all; small: two CPU cores; paper: the paper's numbers of rows.",
        ),
        click.option(
            "--seeds", type=click.IntRange(1, 100), help="Repetitions of each arm, instead of the size's own."
        ),
        click.option(
            "--task",
            type=click.Choice(["word-removal", "slf5k"]),
            default="word-removal",
            show_default=True,
            help="word-removal: shipped, scored exactly; slf5k: the published files, your models, judged by models.",
        ),
        click.option("--data", type=_FILE, metavar="DIR", help="slf5k: where its JSON-lines files lie."),
        click.option("--config", type=_FILE, metavar="YAML", help="slf5k: a run with your models and judges."),
        click.option("--set", "overrides", multiple=True, metavar="KEY.KEY=VALUE", help="slf5k: override the run."),
        _folder_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def experiment() -> None:
    """The paper's studies: declared arms with seeds, each made once, ending in tables with errors."""


@experiment.command("list")
@output_options
def list_studies(session: Session) -> None:
    """The studies and what they ask."""
    bench = _program().bench("word-removal", "small", Path(".ilf/experiments"))
    found = [{"name": study.name, "question": study.question} for study in bench.studies(())]
    session.show(found, lambda: print_table(["name", "asks"], [[one["name"], one["question"]] for one in found]))


@experiment.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All studies.")
@click.option("--plan", "only_plan", is_flag=True, help="Only show what would run, and what is finished.")
@click.option("--parallel", type=click.IntRange(1, 64), default=2, show_default=True, help="Arms in work at a time.")
@_bench_options
@service_options
def run(
    session: Session,
    names: Sequence[str],
    everything: bool,
    only_plan: bool,
    parallel: int,
    folder: Path,
    **options: Any,
) -> None:
    """Run studies; what is finished is not run again, and an interrupted command goes on where it was.

    For word-removal the command starts services of its own, on free ports, and stops them at its end, unless --server
    names others that serve the model word-removal. For slf5k it uses --server, `ilf connect` or `ilf up`.
    """
    program = _program()
    if everything == bool(names):
        raise InvalidArgumentError.of("NAMES", "name studies, or say --all; `ilf experiment list` shows them")
    _check(program, names)
    bench = program.bench(folder=folder, **options)
    if only_plan:
        steps = bench.plan(names)
        session.show(
            [{"kind": kind, "title": title, "finished": done} for kind, title, done in steps],
            lambda: _print_plan(steps),
        )
        return
    # As Ctrl-C does: the services that this command started are stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = program.run(bench, names, _access(session, options["task"]), parallel, _say)
    _show(session, bench, results)
    if any(found.missing for _, found in results):
        raise click.exceptions.Exit(FAILED)


@experiment.command()
@click.argument("names", nargs=-1)
@_bench_options
@output_options
def report(session: Session, names: Sequence[str], folder: Path, **options: Any) -> None:
    """Show and write the tables of what is finished; nothing runs."""
    program = _program()
    _check(program, names)
    bench = program.bench(folder=folder, **options)
    _show(session, bench, bench.results(names))


@experiment.command()
@click.option("--size", "sizes", multiple=True, type=click.Choice(["xs", "s"]), help="Only these.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of weights and data.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads for one training.")
@_folder_option
@output_options
def models(session: Session, sizes: Sequence[str], seed: int, threads: int, folder: Path) -> None:
    """Train the other sizes of the word-removal model family, from random weights."""
    made = _program().make_models(folder, sizes, seed, threads, _say)
    session.show([str(path) for path in made], lambda: click.echo("\n".join(str(path) for path in made)))


def _program() -> Any:
    try:
        return import_module("examples.experiments.program")
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("examples"):
            raise
        raise FailedPreconditionError(
            "The examples are not installed here. Clone the repository and run this command in it.",
            reason="EXAMPLES_MISSING",
        ) from error


def _check(program: Any, names: Sequence[str]) -> None:
    from ilf_client.config import suggestion

    for name in names:
        if name not in program.STUDIES:
            raise InvalidArgumentError.of("NAMES", f"{name!r} is no study; {suggestion(name, list(program.STUDIES))}")


def _access(session: Session, task: str) -> Any:
    """The services to use; None where the command has to start its own, with the models of the task that is shipped."""
    from ilf_client.cli.addresses import access

    return None if task == "word-removal" and not session.server else access(session.server)


def _show(session: Session, bench: Any, results: Any) -> None:
    from ilf_client.experiments.reports import as_data, cells, lines
    from ilf_client.experiments.tables import tables_of

    page = bench.write(results)

    def for_people() -> None:
        for study, found in results:
            click.echo(click.style(f"\n{study.name}: {study.question}", bold=True))
            for table in tables_of(study, found.measured):
                click.echo()
                print_table(*cells(study, table))
            click.echo()
            for line in lines(study, found):
                click.echo(line)
        click.echo(f"\nReports: {page.parent}, all of them: {page}")

    session.show([as_data(study, found, bench.heading) for study, found in results], for_people)


def _print_plan(steps: Sequence[tuple[str, str, bool]]) -> None:
    print_table(["step", "what", "finished"], [[kind, title, "yes" if done else ""] for kind, title, done in steps])
    click.echo(f"{sum(done for *_, done in steps)} of {len(steps)} steps are finished")


def _say(line: str) -> None:
    click.echo(line, err=True)
