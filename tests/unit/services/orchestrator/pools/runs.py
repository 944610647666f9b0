"""Runs at some point of the loop, for tests of what their pools need."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from services.orchestrator.models import FeedbackSource, FeedbackStage, GenerateStage, OutputSource, RunSpec
from services.orchestrator.run import Plan, Progress, Run, RunState, StageState, StageStatus

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SPEC = RunSpec(
    iterations=2,
    shard_rows=10,
    policy="base",
    generate=GenerateStage(OutputSource.POLICY),
    feedback=FeedbackStage(FeedbackSource.PLUGIN),
)


def run_of(spec: RunSpec = SPEC, run_id: str = "a") -> Run:
    return Run(run_id, spec, RunState.RUNNING, NOW, plan=Plan(train_rows=200, test_rows=30))


def at_work(run: Run, iteration: int, stage: str, done: int, total: int, start: datetime = NOW) -> Run:
    return run.with_stage(iteration, StageStatus(stage, StageState.RUNNING, Progress(done, total), start_time=start))


def finished(run: Run, iteration: int, *stages: str, rows: int = 100) -> Run:
    for stage in stages:
        run = run.with_stage(iteration, StageStatus(stage, StageState.SUCCEEDED, Progress(rows, rows)))
    return run


def improving(run: Run, *, refined: int, ranked: int, rows: int = 100) -> Run:
    """In the first iteration's refine-rank-select."""
    run = finished(finished(run, 0, "evaluate", rows=30), 1, "generate", "feedback", rows=rows)
    run = at_work(run, 1, "refine", refined, rows)
    run = at_work(run, 1, "rank", ranked, rows)
    return at_work(run, 1, "select", ranked, rows)


def training(run: Run, *, step: int = 0, steps: int = 0, start: datetime = NOW) -> Run:
    """In the first iteration's finetune."""
    run = finished(finished(run, 0, "evaluate", rows=30), 1, "generate", "feedback", "refine", "rank", "select")
    return at_work(run, 1, "finetune", step, steps, start)


def evaluating(run: Run, *, done: int = 0) -> Run:
    """In the first iteration's evaluation, its policy loaded."""
    run = finished(training(run), 1, "finetune")
    run = run.with_iteration(replace(run.iteration(1), policy="a/it-1"))
    return at_work(run, 1, "evaluate", done, 30)
