"""What a report shows, gathered from the orchestrator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ilf_client.models.runs import Iteration, Run, RunSample
from ilf_client.report.agreement import Agreement, AgreementCounter

if TYPE_CHECKING:
    from ilf_client.sync import Client


@dataclass(frozen=True)
class IterationReport:
    """One iteration: its stages and metrics, how its judges agree, and some of its rows."""

    iteration: Iteration
    agreement: Agreement | None
    samples: Sequence[RunSample]
    row_count: int
    failed_count: int


@dataclass(frozen=True)
class Report:
    """A run with its iterations."""

    run: Run
    iterations: Sequence[IterationReport]


def collect(client: Client, name: str, sample_rows: int) -> Report:
    """Reads a run and all its rows once; only the first `sample_rows` of each iteration are kept."""
    run = client.runs.get(name)
    return Report(
        run,
        [_iteration(i, client.runs.samples(run.name, iteration=i.index), sample_rows) for i in run.iterations],
    )


def _iteration(iteration: Iteration, rows: Iterator[RunSample], sample_rows: int) -> IterationReport:
    if not any(stage.stage == "generate" for stage in iteration.stages):
        return IterationReport(iteration, None, [], 0, 0)
    counter = AgreementCounter()
    kept: list[RunSample] = []
    row_count = failed_count = 0
    for row in rows:
        row_count += 1
        failed_count += row.error is not None
        counter.add(row)
        if len(kept) < sample_rows:
            kept.append(row)
    return IterationReport(iteration, counter.result(), kept, row_count, failed_count)
