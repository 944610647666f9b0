"""What a page shows, as a command for the terminal."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ilf_client.models.runs import RunState, SampleFilter, SampleOrder


def bare(name: str) -> str:
    """The id in a resource name, which commands understand."""
    return name.rpartition("/")[2]


def list_runs(states: Sequence[RunState], text: str) -> str:
    """The list of runs with its filters."""
    words = ["ilf", "runs", "list"]
    for state in states:
        words += ["--state", state.value]
    return shlex.join([*words, *_option("text", text)])


def list_samples(
    run: str, iteration: int, where: SampleFilter, order_by: SampleOrder, descending: bool, limit: int
) -> str:
    """Samples of a run with all conditions."""
    words = ["ilf", "runs", "samples", bare(run), "--iteration", str(iteration), *_option("text", where.text)]
    for name in ("min_score", "max_score", "min_spread", "max_spread", "min_length", "max_length"):
        value = getattr(where, name)
        words += _option(name.replace("_", "-"), "" if value is None else str(value))
    if where.failed is not None:
        words.append("--failed" if where.failed else "--not-failed")
    for item in where.item_ids:
        words += _option("item", item)
    if order_by not in (SampleOrder.UNSPECIFIED, SampleOrder.DATASET):
        words += ["--order-by", order_by.value]
    if descending:
        words.append("--descending")
    return shlex.join([*words, "--limit", str(limit)])


def compare(first: str, first_iteration: int, second: str, second_iteration: int) -> str:
    """Two iterations side by side."""
    numbers = [str(first_iteration), str(second_iteration)]
    return shlex.join(["ilf", "runs", "compare", bare(first), bare(second), "--iteration", *numbers])


def judge_by_reviews(run: str, iteration: int) -> str:
    """What people said of an iteration's refinements, as a file, and what the judges say of it."""
    file = "reviews.jsonl"
    export = of("runs", "export", bare(run), "--kind", "reviews", "--iteration", str(iteration), "--output", file)
    return f"{export} && {of('judges', 'calibrate', file)}"


def of(*words: str) -> str:
    """Any other command of `ilf`."""
    return shlex.join(["ilf", *words])


def _option(name: str, value: str) -> list[str]:
    if value.startswith("-"):
        return [f"--{name}={value}"]
    return [f"--{name}", value] if value else []
