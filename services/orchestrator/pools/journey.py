"""The rest of a run as its pools see it: which rows are left in which stage, and how long that takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from services.orchestrator.models import FeedbackSource, OutputSource
from services.orchestrator.pools.meter import Meter
from services.orchestrator.pools.models import RANKING, REFINEMENT, REWARD
from services.orchestrator.run import Run, StageState

_FINETUNE, _LOAD = "finetune", "load"
_POOL_WAITS = {"REFINEMENT_UNAVAILABLE": REFINEMENT, "RANKING_UNAVAILABLE": RANKING, "REWARD_UNAVAILABLE": REWARD}
"""What a run may wait for that a pool cures; whoever waits for something else does not know for how long."""


@dataclass(frozen=True)
class Share:
    """One pool's part of a leg.

    Attributes:
        rows: Rows that it has not answered yet.
        in_flight: Those of them that it has already.
    """

    pool: str
    stage: str
    rows: int
    in_flight: int = 0


@dataclass(frozen=True)
class Leg:
    """Stages that work at the same time; each share gets the rows that the share before it has answered.

    Attributes:
        seconds: How long the leg takes where no pool of ours sets its pace; infinite where nobody knows.
        trains: The leg is a finetune job.
    """

    name: str
    shares: tuple[Share, ...] = ()
    seconds: float = 0.0
    trains: bool = False


@dataclass(frozen=True)
class Journey:
    """What is left of a run, from the stage at work on.

    Attributes:
        waits_for_training: A finetune job is to begin and has not made a step yet.
        waits_for_pool: The pool that a call of the run has not been answered by, and is made again to; "" for none.
            Between two calls nothing of it lies at the front.
    """

    run_id: str
    legs: tuple[Leg, ...]
    waits_for_training: bool = False
    waits_for_pool: str = ""


@dataclass(frozen=True)
class _Step:
    """Stages that the loop takes as one, and who works for each."""

    iteration: int
    stages: tuple[str, ...]
    pools: tuple[str, ...] = ()


def journey(run: Run, meter: Meter, now: datetime) -> Journey:
    """What is left of a run that has not ended."""
    steps = list(_steps(run))
    while steps and _is_done(run, steps[0]):
        steps.pop(0)
    legs = tuple(_leg(run, meter, step, now, first=step is steps[0]) for step in steps)
    trains = bool(steps) and steps[0].stages == (_FINETUNE,)
    waits_for = _POOL_WAITS.get(run.waiting.reason, "") if run.waiting else ""
    return Journey(run.id, legs, trains and run.stage(steps[0].iteration, _FINETUNE).progress.done == 0, waits_for)


def _steps(run: Run) -> Iterator[_Step]:
    spec = run.spec
    evaluates = not spec.evaluate.disabled and not spec.preview_rows
    best = (REWARD,) if spec.evaluate.best_of_n.n else ()
    wins = (RANKING,) if spec.evaluate.win_rate else ()
    if evaluates:
        yield _Step(0, ("evaluate",), (REFINEMENT, *best))
    for number in range(1, 1 + (1 if spec.preview_rows else spec.iterations)):
        yield _Step(number, ("generate",), (REFINEMENT,) if spec.generate.source is OutputSource.POLICY else ())
        yield _Step(number, ("feedback",), (REFINEMENT,) if spec.feedback.source is FeedbackSource.CRITIC else ())
        selects = () if spec.preview_rows else ("select",)
        yield _Step(number, ("refine", "rank", *selects), (REFINEMENT, spec.rank.service))
        if spec.preview_rows:
            return
        yield _Step(number, (_FINETUNE,))
        yield _Step(number, (_LOAD,), (REFINEMENT,))
        if evaluates:
            yield _Step(number, ("evaluate",), (REFINEMENT, *wins, *best))


def _is_done(run: Run, step: _Step) -> bool:
    if step.stages == (_LOAD,):
        return bool(run.iteration(step.iteration).policy)
    return all(run.stage(step.iteration, stage).state is StageState.SUCCEEDED for stage in step.stages)


def _leg(run: Run, meter: Meter, step: _Step, now: datetime, *, first: bool) -> Leg:
    # A stage without a pool of its own (select) waits for the one before it.
    stages = step.stages[: len(step.pools)] if len(step.stages) > 1 else step.stages * len(step.pools)
    shares = tuple(
        _share(run, meter, step.iteration, stage, pool) for stage, pool in zip(stages, step.pools, strict=True)
    )
    seconds = _seconds_left(run, step, now)
    if first and run.waiting is not None and run.waiting.reason not in _POOL_WAITS:
        seconds = math.inf
    return Leg(step.stages[0], shares, seconds, trains=step.stages == (_FINETUNE,))


def _share(run: Run, meter: Meter, iteration: int, stage: str, pool: str) -> Share:
    if stage == _LOAD:
        return Share(pool, stage, 1)
    status = run.stage(iteration, stage)
    if status.state is StageState.PENDING:
        return Share(pool, stage, _expected_rows(run, iteration, stage))
    left = status.progress.total - status.progress.done - meter.answered(pool, stage)
    return Share(pool, stage, max(left, 0), meter.in_flight(pool))


def _expected_rows(run: Run, iteration: int, stage: str) -> int:
    """Rows of a stage that has not begun; of the first one of an iteration an estimate."""
    spec, plan = run.spec, run.plan
    if stage == "evaluate":
        return run.stage(0, stage).progress.total or plan.test_rows
    known = run.stage(iteration, "generate").progress.total
    estimate = plan.train_rows if spec.reuse_contexts else -(-plan.train_rows // max(spec.iterations, 1))
    return known or spec.preview_rows or spec.contexts_per_iteration or estimate


def _seconds_left(run: Run, step: _Step, now: datetime) -> float:
    """By what the step has done so far; nobody knows how long people and jobs take that have not done anything."""
    status = run.stage(step.iteration, step.stages[0])
    done, total = status.progress.done, status.progress.total
    if status.start_time is not None and done:
        return (now - status.start_time).total_seconds() * (total - done) / done
    people = step.stages == ("feedback",) and run.spec.feedback.source is FeedbackSource.PEOPLE
    return math.inf if people or step.stages == (_FINETUNE,) else 0.0
