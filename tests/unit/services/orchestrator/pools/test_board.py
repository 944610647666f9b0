"""The board: what fronts and runs say becomes a number of replicas, and training gets its GPUs when it is due."""

from dataclasses import replace
from datetime import timedelta

from services.orchestrator.pools.board import PoolBoard
from services.orchestrator.pools.journey import journey
from services.orchestrator.pools.meter import Meter
from services.orchestrator.pools.models import FrontStatus, PoolRules
from services.orchestrator.run import Run
from tests.unit.services.orchestrator.pools.runs import NOW, evaluating, improving, run_of, training

SHARED = PoolRules("refinement", max_replicas=4, target_seconds=10.0, start_seconds=20.0, hand_over=True)


class Scene:
    """A board whose time the test moves."""

    def __init__(self, *rules: PoolRules) -> None:
        self.now = NOW
        self.board = PoolBoard(rules or (SHARED,), NOW)

    def say(self, *, pool: str = "refinement", **status: int) -> None:
        self.board.front_says(pool, FrontStatus(**status), self.now)

    def look(self, *runs: Run, after: float = 0.0) -> int:
        self.now += timedelta(seconds=after)
        self.board.look([journey(run, Meter(), self.now) for run in runs], self.now)
        return self.want()

    def want(self, pool: str = "refinement") -> int:
        view = self.board.view(pool)
        assert view is not None
        return view.decision.want


def named(run: Run, run_id: str) -> Run:
    return replace(run, id=run_id)


def test_a_change_of_the_want_is_told_and_explained() -> None:
    scene = Scene()
    ticket = scene.board.changed.ticket()
    assert scene.look(improving(run_of(), refined=80, ranked=80)) == 2
    assert ticket.is_set()
    view = scene.board.views()[0]
    assert view.decision.why == "20 rows of refine (run a) at 1 items/s a replica"
    assert (view.rows, view.backlog, view.have, view.decision.since) == (20, 20, 0, NOW)


def test_all_runs_and_all_calls_count_together() -> None:
    scene = Scene()
    scene.say(queued_items=3, running_items=2, ready_workers=1)
    first, second = improving(run_of(), refined=85, ranked=0), improving(run_of(), refined=90, ranked=0)
    assert scene.look(first, named(second, "b")) == 3
    assert scene.board.views()[0].backlog == 30


def test_training_waits_until_serving_that_nobody_needs_is_gone() -> None:
    scene = Scene()
    scene.say(ready_workers=2)
    assert scene.look(improving(run_of(), refined=80, ranked=80)) == 2
    assert scene.board.leaving() == []
    assert scene.look(training(run_of())) == 0
    assert scene.board.leaving() == ["refinement (2 ready, 0 needed)"]
    scene.say(ready_workers=0)
    assert scene.board.leaving() == []


def test_serving_that_another_run_needs_stays_and_is_not_waited_for() -> None:
    scene = Scene()
    scene.say(ready_workers=1)
    other = named(improving(run_of(), refined=95, ranked=95), "b")
    assert scene.look(training(run_of()), other) == 1
    assert scene.board.leaving() == []


def test_a_front_that_says_nothing_may_hold_gpus() -> None:
    scene = Scene()
    scene.look(training(run_of()))
    assert scene.board.leaving() == ["refinement (its front does not answer)"]


def test_pools_that_share_nothing_with_training_are_not_waited_for() -> None:
    scene = Scene(replace(SHARED, hand_over=False))
    scene.say(ready_workers=2)
    scene.look(training(run_of()))
    assert scene.board.leaving() == []


def test_serving_takes_the_gpus_back_when_the_job_has_ended() -> None:
    scene = Scene()
    scene.say(ready_workers=0)
    assert scene.look(training(run_of())) == 0
    assert scene.look(training(run_of(), step=19, steps=20), after=19) == 0
    assert scene.look(evaluating(run_of()), after=1) == 3


def test_after_a_start_replicas_that_are_there_stay_for_the_idle_time() -> None:
    scene = Scene()
    scene.look()
    assert not scene.board.views()[0].is_known
    scene.say(ready_workers=2)
    assert scene.look() == 2 and scene.board.views()[0].is_known
    assert scene.look(after=59) == 2
    assert scene.look(after=1) == 0


def test_a_need_counts_before_the_front_has_answered() -> None:
    scene = Scene()
    scene.look(improving(run_of(), refined=80, ranked=80))
    assert scene.board.views()[0].is_known


def test_measured_figures_take_the_place_of_the_guesses() -> None:
    scene = Scene()
    scene.say(ready_workers=0)
    scene.look()
    scene.look(improving(run_of(), refined=80, ranked=80))
    scene.now += timedelta(seconds=7)
    scene.say(ready_workers=1)
    scene.board.front_says("refinement", FrontStatus(0, 0, 1, 100, 20.0), scene.now)
    speed = scene.board.views()[0].speed
    assert (speed.items_per_second, speed.rate_measured, speed.start_seconds, speed.start_measured) == (
        5,
        True,
        7,
        True,
    )
