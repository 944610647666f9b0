"""`ilf demo`: the word-removal task through all five services, from start to report."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from examples.word_removal.arms import FOLDER, Arm, arm_spec
from examples.word_removal.data import write_datasets
from examples.word_removal.results import ArmResult, choice_lines, page, table
from ilf_client import Client
from ilf_client.cli.options import Session
from ilf_client.cli.output import print_table
from ilf_client.cli.watching import end, follow
from ilf_client.endpoints import Endpoints
from ilf_client.humanize import duration
from ilf_client.models.runs import Run
from ilf_client.models.specs import DatasetSpec
from ilf_client.publishing import find_local_datasets, publish_datasets
from ilf_client.stack.config import StackConfig, resolve
from ilf_client.stack.launch import Launcher
from ilf_common.artifacts import ArtifactStore

MODEL = FOLDER / "model"
_START_SECONDS = 300.0
_STOP_SECONDS = 20.0
_PLUGIN_SECONDS = 30.0
_SAMPLE_ROWS = 20


@click.command("demo")
@click.option("--controls/--no-controls", default=True, show_default=True, help="Also run the two control arms.")
@click.option("--seeds", type=click.IntRange(1, 100), default=1, show_default=True, help="Runs of each arm.")
@click.option("--contexts", type=click.IntRange(20), default=300, show_default=True, help="New contexts an iteration.")
@click.option("--test", type=click.IntRange(20), default=300, show_default=True, help="Held-out contexts.")
@click.option("--table", "grade", is_flag=True, help="Only grade refiners: the paper's word-removal table.")
@click.option("--model", "models", multiple=True, metavar="ID", help="With --table: directories or hub ids to grade.")
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".ilf/demo"),
    show_default=True,
    help="Where services keep their state, and where the report is written.",
)
def command(
    controls: bool, seeds: int, contexts: int, test: int, grade: bool, models: Sequence[str], state_dir: Path
) -> None:
    """Run the word-removal demo: a small model learns from feedback, through all five services."""
    if grade:
        from examples.word_removal.grading import grade_refiners

        grade_refiners(models or [str(MODEL)])
        return
    arms = list(Arm) if controls else [Arm.ILF]
    began = time.monotonic()
    click.echo(f"Starting the five services; their state and logs lie in {state_dir}.")
    with ExitStack() as stack:
        places, store_root = stack.enter_context(services(state_dir))
        folder = (state_dir / "datasets").resolve()
        write_datasets(folder, {"train": 2 * contexts, "test": test})
        results = run_arms(arms, seeds, places, ArtifactStore(store_root), folder, stack)
        report = write_report(results, places, state_dir)
    click.echo("\nExact match on held-out sentences, greedy, without feedback at test time:\n")
    headers, rows = table(results)
    print_table(headers, rows)
    for line in choice_lines(results[0]):
        click.echo(f"ILF, {line}")
    click.echo(f"\nDone in {duration(time.monotonic() - began)}. Report: {report}")


def run_arms(
    arms: Sequence[Arm], seeds: int, places: Endpoints, store: ArtifactStore, folder: Path, stack: ExitStack
) -> list[ArmResult]:
    """Runs every arm with every seed, one after the other, and answers what they found."""
    feedback_address = stack.enter_context(plugin("examples.word_removal.program:feedback"))
    score_address = stack.enter_context(plugin("examples.word_removal.program:exact_match", "--score"))
    client = stack.enter_context(Client(places))
    named = DatasetSpec(train_uri="train.jsonl", test_uri="test.jsonl")
    results = []
    for arm in arms:
        runs = []
        for seed in range(seeds):
            spec = arm_spec(arm, named, feedback_address=feedback_address, score_address=score_address, seed=seed)
            spec = publish_datasets(spec, find_local_datasets(spec, folder), store)
            run_id = f"{arm.slug}-{seed}-{int(time.time())}"
            click.echo(f"\nFinetuning on {arm.value}, seed {seed}: {run_id}")
            runs.append(watch(client, client.runs.create(spec, run_id=run_id).name))
        results.append(ArmResult(arm, tuple(runs)))
    return results


def watch(client: Client, name: str) -> Run:
    """Shows a run until it ends; the command ends with exit code 1 unless it succeeded."""
    session = Session()
    run = follow(session, client, name)
    end(session, run)
    return run


@contextmanager
def services(state_dir: Path) -> Iterator[tuple[Endpoints, str]]:
    """The five services on free ports, stopped at the end; answers where they are and their artifact store."""
    config = stack_config(state_dir)
    began = time.monotonic()

    def tell(service: str, event: str) -> None:
        click.echo(f"  {service:<13} {event:<9} {duration(time.monotonic() - began)}")

    launcher = Launcher(config, tell)
    launcher.start(_START_SECONDS)
    try:
        yield config.endpoints, config.store_root
    finally:
        launcher.stop(_STOP_SECONDS)


def stack_config(state_dir: Path) -> StackConfig:
    """The demo's configuration of the services, with the shipped model."""
    overrides = [f"refinement.models.word-removal={MODEL}", f"ranking.models.word-removal.source={MODEL}"]
    return resolve(FOLDER / "stack.yaml", overrides, state_dir)


@contextmanager
def plugin(function: str, *options: str, port: int = 0) -> Iterator[str]:
    """One of the task's functions as a gRPC plugin in a process of its own, on a free port; answers its address."""
    command_line = [sys.executable, "-m", "ilf_client.cli.main", "plugin", "serve", function, "--port", str(port)]
    command_line += options
    child = subprocess.Popen(
        command_line, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    try:
        assert child.stdout is not None
        said = next((line for line in child.stdout if line.startswith("serving")), None)
        if said is None:
            raise click.ClickException(f"The plugin {function} did not start (exit code {child.wait()}).")
        yield said.split()[-1]
    finally:
        child.terminate()
        child.wait(_PLUGIN_SECONDS)


def write_report(results: Sequence[ArmResult], places: Endpoints, state_dir: Path) -> Path:
    """Writes the page of the demo and a report of each run beside it; answers the page's path."""
    from ilf_client.report.collect import collect
    from ilf_client.report.page import write_page

    folder = (state_dir / "report").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    reports = {}
    with Client(places) as client:
        for result in results:
            for run in result.runs:
                file = folder / f"{run.name.removeprefix('runs/')}.html"
                write_page(collect(client, run.name, _SAMPLE_ROWS), file)
                reports[run.name] = file.name
    path = folder / "index.html"
    path.write_text(page(results, reports), encoding="utf-8")
    return path


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    command.main(args=arguments, prog_name="ilf demo")


if __name__ == "__main__":
    main()
