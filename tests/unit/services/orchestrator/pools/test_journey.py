"""What is left of a run, at each point of the loop."""

import math
from dataclasses import replace
from datetime import timedelta

from services.orchestrator.models import EvaluateStage, FeedbackSource, FeedbackStage, RankerSpec, RankStage
from services.orchestrator.pools.journey import Journey, journey
from services.orchestrator.pools.meter import Meter
from services.orchestrator.run import Run, Waiting
from tests.unit.services.orchestrator.pools.runs import NOW, SPEC, at_work, evaluating, finished, improving, run_of
from tests.unit.services.orchestrator.pools.runs import training as trains

ROUND = ["generate", "feedback", "refine", "finetune", "load", "evaluate"]


def of(run: Run, meter: Meter | None = None, seconds: float = 0.0) -> Journey:
    return journey(run, meter or Meter(), NOW + timedelta(seconds=seconds))


def names(found: Journey) -> list[str]:
    return [leg.name for leg in found.legs]


def test_a_new_run_has_everything_before_it() -> None:
    found = of(run_of())
    assert names(found) == ["evaluate", *ROUND, *ROUND]
    assert [(share.pool, share.rows) for share in found.legs[0].shares] == [("refinement", 30)]
    assert [(share.pool, share.rows) for share in found.legs[3].shares] == [("refinement", 100), ("ranking", 100)]


def test_finished_stages_are_behind_it() -> None:
    assert names(of(improving(run_of(), refined=20, ranked=10)))[:3] == ["refine", "finetune", "load"]
    assert names(of(trains(run_of())))[0] == "finetune"
    assert names(of(evaluating(run_of()))) == ["evaluate", *ROUND]


def test_a_preview_ends_with_its_ranking() -> None:
    assert names(of(run_of(replace(SPEC, preview_rows=4)))) == ["generate", "feedback", "refine"]


def test_judges_are_needed_where_wins_are_measured() -> None:
    found = of(run_of(replace(SPEC, evaluate=EvaluateStage(win_rate=True))))
    assert [share.pool for share in found.legs[0].shares] == ["refinement"]
    assert [share.pool for share in found.legs[6].shares] == ["refinement", "ranking"]


def test_a_run_that_ranks_by_reward_needs_the_reward_pool() -> None:
    found = of(run_of(replace(SPEC, rank=RankStage(RankerSpec("reward_model"), ("rm",)))))
    assert [share.pool for share in found.legs[3].shares] == ["refinement", "reward"]


async def test_rows_that_are_answered_are_not_left_though_their_shard_is_not_finished() -> None:
    meter = Meter()
    async for _ in meter.counted("refinement", "refine", [], _answers(5)):
        pass
    share = of(improving(run_of(), refined=20, ranked=10), meter).legs[0].shares[0]
    assert share.rows == 75


async def _answers(count: int):  # type: ignore[no-untyped-def]
    from services.orchestrator.calls import Outcome

    yield [Outcome(f"row {number}", "text") for number in range(count)]


def test_a_program_s_stage_takes_as_long_as_it_did_so_far() -> None:
    run = at_work(finished(finished(run_of(), 0, "evaluate"), 1, "generate"), 1, "feedback", 25, 100)
    assert of(run, seconds=10).legs[0].seconds == 30.0


def test_nobody_knows_how_long_people_take() -> None:
    spec = replace(SPEC, feedback=FeedbackStage(FeedbackSource.PEOPLE))
    run = finished(finished(run_of(spec), 0, "evaluate"), 1, "generate")
    assert math.isinf(of(run).legs[0].seconds)


def test_a_run_that_waits_for_somebody_else_does_not_know_for_how_long() -> None:
    run = at_work(finished(finished(run_of(), 0, "evaluate"), 1, "generate"), 1, "feedback", 25, 100)
    waits = replace(run, waiting=Waiting("PLUGIN_UNAVAILABLE", "down", NOW))
    assert math.isinf(of(waits, seconds=10).legs[0].seconds)


def test_a_run_that_is_not_answered_by_a_pool_waits_for_it() -> None:
    waits = replace(run_of(), waiting=Waiting("RANKING_UNAVAILABLE", "no worker is ready yet", NOW))
    assert of(waits).waits_for_pool == "ranking"
    assert not of(run_of()).waits_for_pool
    assert not of(replace(waits, waiting=Waiting("PEOPLE", "3 tasks", NOW))).waits_for_pool


def test_a_run_waits_for_training_until_the_job_has_made_a_step() -> None:
    assert of(trains(run_of())).waits_for_training
    assert not of(trains(run_of(), step=3, steps=10)).waits_for_training
    assert not of(improving(run_of(), refined=0, ranked=0)).waits_for_training


def test_a_job_s_time_follows_from_its_steps() -> None:
    assert math.isinf(of(trains(run_of())).legs[0].seconds)
    assert of(trains(run_of(), step=5, steps=20), seconds=50).legs[0].seconds == 150.0
