"""What `ilf run --preview N` shows: the rows with their scores, and what the whole run would cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ilf_client.cli.options import Session
from ilf_client.cli.output import print_json, print_table
from ilf_client.humanize import duration
from ilf_client.models.runs import Run, RunSample
from ilf_client.stages import StageCost, rows_of_whole_run, stage_cost

if TYPE_CHECKING:
    from ilf_client.sync import Client


def show_preview(session: Session, client: Client, run: Run, training_rows: int | None) -> None:
    """Prints the preview of a run that has ended.

    Args:
        session: The command's options.
        client: Where the rows are.
        run: The preview, ended.
        training_rows: Rows of the training set, where known.
    """
    worked = [iteration for iteration in run.iterations if any(s.stage == "refine" for s in iteration.stages)]
    if not worked:
        return
    samples = list(client.runs.samples(run.name, iteration=worked[-1].index))
    costs = [
        stage_cost(stage, rows_of_whole_run(run.spec, training_rows))
        for stage in worked[-1].stages
        if stage.progress.done
    ]
    if session.json:
        print_json({"samples": samples, "costs": costs}, line=True)
        return
    for sample in samples:
        print_sample(sample)
    _print_costs(costs)


def print_sample(sample: RunSample) -> None:
    """One row: context, initial output, feedback, and each refinement with its score; the chosen one is marked."""
    click.echo(click.style(f"\n{sample.item_id}", bold=True))
    for label, text in (("context", sample.context), ("output", sample.initial_output), ("feedback", sample.feedback)):
        if text:
            click.echo(f"  {label:<9} {_indented(text)}")
    if sample.error is not None:
        click.echo(click.style(f"  failed in {sample.failed_stage}: {sample.error.message}", fg="red"))
    for index, candidate in enumerate(sample.candidates):
        mark = "*" if index == sample.best_index else " "
        line = f"  {mark} {candidate.score.score:7.4f} ±{candidate.score.spread:.3f}  {_indented(candidate.text)}"
        click.echo(click.style(line, fg="green") if mark == "*" else line)


def _indented(text: str) -> str:
    return text.strip().replace("\n", "\n" + " " * 12)


def _print_costs(costs: list[StageCost]) -> None:
    click.echo()
    print_table(
        ["stage", "rows", "time", "prompt tokens", "new tokens", "whole run: time", "tokens"],
        [
            [
                cost.stage,
                cost.rows,
                duration(cost.seconds),
                cost.prompt_tokens,
                cost.completion_tokens,
                "?" if cost.expected_seconds is None else duration(cost.expected_seconds),
                "?" if cost.expected_tokens is None else f"{cost.expected_tokens:,}",
            ]
            for cost in costs
        ],
    )
    times = [cost.expected_seconds for cost in costs]
    if times and all(seconds is not None for seconds in times):
        click.echo(
            f"Expected for the whole run: {duration(sum(seconds or 0 for seconds in times))}; "
            "training and evaluation come on top."
        )
