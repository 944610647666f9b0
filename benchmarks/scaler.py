"""Share of GPU-seconds that did work, with and without early wake-up and letting go, on a recorded run.

Time is simulated: the planner itself (`services.orchestrator.pools`) decides every second what each pool wants, and
replicas start and work in simulated time, at the rates that a real run was recorded with (`recorded_run.json`). Every
variant does the same work at the same rates; only what the planner may know or do differs: without early wake-up it
believes that replicas start at once, without letting go replicas stay until the run has ended, and training has GPUs
of its own. A GPU is held from the moment a pod has it, so start-up counts as held and not as work.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.recording import print_table, record
from services.orchestrator.models import FeedbackSource, FeedbackStage, GenerateStage, OutputSource, RunSpec
from services.orchestrator.pools.journey import Journey, journey
from services.orchestrator.pools.meter import Meter
from services.orchestrator.pools.models import RANKING, REFINEMENT, Decision, FrontStatus, PoolRules, Speed
from services.orchestrator.pools.planner import PoolState, decide, needs
from services.orchestrator.run import Plan, Progress, Run, RunState, StageState, StageStatus

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = RunSpec(
    iterations=2,
    policy="base",
    generate=GenerateStage(OutputSource.POLICY),
    feedback=FeedbackStage(FeedbackSource.PLUGIN),
)
STEPS = [
    (0, "evaluate"),
    *(
        (number, stage)
        for number in (1, 2)
        for stage in ("generate", "feedback", "refine", "finetune", "load", "evaluate")
    ),
]
POOLS = {"evaluate": REFINEMENT, "generate": REFINEMENT, "refine": REFINEMENT, "rank": RANKING, "load": REFINEMENT}
ROWS_AHEAD = 1024
"""Refined rows that wait for their ranking at most: four shards in flight."""


@dataclass(frozen=True)
class Variant:
    """What the planner may do."""

    name: str
    wakes_early: bool
    lets_go: bool


VARIANTS = [
    Variant("early wake-up and letting go", True, True),
    Variant("letting go alone", False, True),
    Variant("early wake-up alone", True, False),
    Variant("neither", False, False),
]


@dataclass(frozen=True)
class World:
    """What does not depend on the planner.

    Attributes:
        rates: Rows (steps of training) a second by iteration and stage: of one replica, or of all GPUs of the job.
        totals: Rows (steps) by iteration and stage.
        replicas: Most replicas of a pool.
        training_gpus: GPUs of a job.
        start_seconds: What a replica takes to start.
    """

    rates: Mapping[tuple[int, str], float]
    totals: Mapping[tuple[int, str], int]
    replicas: int
    training_gpus: int
    start_seconds: float


@dataclass
class Pool:
    """Replicas of one pool, each by the seconds that it has had its GPU."""

    rules: PoolRules
    decision: Decision
    replicas: list[float] = field(default_factory=list)
    wanted_seconds: float = 0.0
    worked: float = 0.0
    held: float = 0.0

    def ready(self, start_seconds: float) -> int:
        """Replicas that have started."""
        return sum(1 for age in self.replicas if age >= start_seconds)


class Simulation:
    """One run in simulated time, a second a step."""

    def __init__(self, world: World, variant: Variant, idle_seconds: float, target_seconds: float) -> None:
        self.world = world
        self.variant = variant
        self.seconds = 0
        self.step = 0
        self.trained = 0.0
        self.done: dict[tuple[int, str], float] = {}
        self.run = Run("recorded", SPEC, RunState.RUNNING, BEGIN, plan=Plan(train_rows=2 * world.totals[1, "refine"]))
        rules = PoolRules(
            "",
            0,
            world.replicas,
            target_seconds,
            idle_seconds if variant.lets_go else math.inf,
            hand_over=variant.lets_go,
        )
        self.pools = {
            name: Pool(replace(rules, name=name), Decision(0, "", BEGIN, BEGIN)) for name in (REFINEMENT, RANKING)
        }

    @property
    def now(self) -> datetime:
        """Simulated time."""
        return BEGIN + timedelta(seconds=self.seconds)

    def finish(self) -> None:
        """Steps until the run has ended."""
        while self.step < len(STEPS):
            self._decide()
            self._schedule()
            self._work()
            self.seconds += 1

    def _decide(self) -> None:
        left = journey(self.run, Meter(), self.now)
        believed = self.world.start_seconds if self.variant.wakes_early else 0.0
        states = {name: self._state(pool, left, believed) for name, pool in self.pools.items()}
        trains = self.run.id if left.waits_for_training and self.variant.lets_go else ""
        for name, need in needs(states, [left]).items():
            pool = self.pools[name]
            pool.decision = decide(pool.rules, pool.decision, need, self.now, trains=trains)

    def _state(self, pool: Pool, left: Journey, believed: float) -> PoolState:
        iteration, stage = STEPS[self.step]
        measured = "rank" if pool.rules.name == RANKING else stage
        rate = self.world.rates.get((iteration, measured)) or self.world.rates[max(iteration, 1), "refine"]
        ready = pool.ready(self.world.start_seconds)
        return PoolState(pool.rules, Speed(rate, believed), FrontStatus(ready_workers=ready), pool.wanted_seconds)

    def _schedule(self) -> None:
        """Gives pods that are asked for their GPUs, and takes those that are not wanted."""
        for pool in self.pools.values():
            pool.replicas.sort(reverse=True)
            del pool.replicas[pool.decision.want :]
            pool.replicas.extend([0.0] * (pool.decision.want - len(pool.replicas)))
            waking = pool.replicas and not pool.ready(self.world.start_seconds)
            pool.wanted_seconds = pool.wanted_seconds + 1 if waking else 0.0

    def _work(self) -> None:
        iteration, stage = STEPS[self.step]
        if stage == "refine":
            refined = self._advance(iteration, "refine", self.done.get((iteration, "rank"), 0.0) + ROWS_AHEAD)
            self._advance(iteration, "rank", refined)
            self._status(iteration, "select", self.done[iteration, "rank"])
            ended = self.done[iteration, "rank"] >= self.world.totals[iteration, "rank"]
        elif stage == "finetune":
            ended = self._train(iteration)
        elif stage == "load":
            ended = self.pools[REFINEMENT].ready(self.world.start_seconds) > 0
            if ended:
                self.run = self.run.with_iteration(replace(self.run.iteration(iteration), policy="new"))
        else:
            ended = self._advance(iteration, stage, math.inf) >= self.world.totals[iteration, stage]
        for pool in self.pools.values():
            pool.held += len(pool.replicas)
            pool.replicas = [age + 1 for age in pool.replicas]
        self.step += ended

    def _advance(self, iteration: int, stage: str, limit: float) -> float:
        """A second of a stage's work, as far as its rows are there; answers its rows done."""
        before = self.done.get((iteration, stage), 0.0)
        pool = self.pools.get(POOLS.get(stage, ""))
        ready = pool.ready(self.world.start_seconds) if pool else 1
        rate = self.world.rates[iteration, stage]
        after = max(before, min(before + ready * rate, limit, self.world.totals[iteration, stage]))
        if pool:
            pool.worked += (after - before) / rate
        self.done[iteration, stage] = after
        self._status(iteration, stage, after)
        return after

    def _train(self, iteration: int) -> bool:
        if self.variant.lets_go and any(pool.replicas for pool in self.pools.values()):
            self._status(iteration, "finetune", 0)
            return False
        after = self.done.get((iteration, "finetune"), 0.0) + self.world.rates[iteration, "finetune"]
        self.done[iteration, "finetune"] = after
        self.trained += self.world.training_gpus
        self._status(iteration, "finetune", after)
        return after >= self.world.totals[iteration, "finetune"]

    def _status(self, iteration: int, stage: str, done: float) -> None:
        total = self.world.totals.get((iteration, stage), self.world.totals[max(iteration, 1), "refine"])
        state = StageState.SUCCEEDED if done >= total else StageState.RUNNING
        start = self.run.stage(iteration, stage).start_time or self.now
        self.run = self.run.with_stage(
            iteration, StageStatus(stage, state, Progress(min(int(done), total), total), start_time=start)
        )

    def result(self) -> dict[str, object]:
        """A row of the table."""
        held = sum(pool.held for pool in self.pools.values()) + self.trained
        worked = sum(pool.worked for pool in self.pools.values()) + self.trained
        serving = sum(pool.worked for pool in self.pools.values()) / sum(pool.held for pool in self.pools.values())
        gpus = 2 * self.world.replicas
        if not self.variant.lets_go:
            gpus += self.world.training_gpus
        return {
            "variant": self.variant.name,
            "GPUs": gpus,
            "GPU-seconds held": round(held),
            "GPU-seconds that did work": round(worked),
            "of those held": f"{100 * worked / held:.0f} %",
            "of those held by serving": f"{100 * serving:.0f} %",
            "of all there are": f"{100 * worked / (gpus * self.seconds):.0f} %",
            "run, minutes": round(self.seconds / 60, 1),
        }


def world(options: argparse.Namespace) -> World:
    """The recorded run with as many rows as asked for."""
    stages = json.loads((Path(__file__).parent / "recorded_run.json").read_text(encoding="utf-8"))["stages"]
    recorded = {(one["iteration"], one["stage"]): one for one in stages}
    scale = options.rows / recorded[1, "refine"]["done"]
    rates = {key: one["done"] / max(one["seconds"], 0.01) for key, one in recorded.items()}
    totals = {key: round(one["done"] * scale) for key, one in recorded.items()}
    # What was recorded on one device takes as many times fewer seconds on several.
    rates.update({key: rate * options.training_gpus for key, rate in rates.items() if key[1] == "finetune"})
    return World(rates, totals, options.replicas, options.training_gpus, options.start_seconds)


def measure(options: argparse.Namespace) -> Sequence[dict[str, object]]:
    """All variants over the same work."""
    table = []
    for variant in VARIANTS:
        simulation = Simulation(world(options), variant, options.idle_seconds, options.target_seconds)
        simulation.finish()
        table.append(simulation.result())
    return table


def main() -> None:
    """Simulates all variants and records the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="contexts of an iteration")
    parser.add_argument("--replicas", type=int, default=2, help="most replicas of refinement, and of ranking")
    parser.add_argument("--training-gpus", type=int, default=4)
    parser.add_argument("--start-seconds", type=float, default=60.0, help="from a pod with a GPU to a ready replica")
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    parser.add_argument("--target-seconds", type=float, default=300.0)
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    table = measure(options)
    print_table(table)
    if not options.no_record:
        record("scaler", table, device="simulated time, recorded rates")


if __name__ == "__main__":
    main()
