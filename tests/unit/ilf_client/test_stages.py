from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ilf_client import RunSpec
from ilf_client.models.inference import Usage
from ilf_client.models.runs import Iteration, Progress, Run, StageState, StageStatus
from ilf_client.stages import newest_refined, rate, remaining, rows_of_whole_run, stage_cells, stage_cost

START = datetime(2026, 1, 1, tzinfo=UTC)


def stage(done: int, seconds: float, state: StageState = StageState.SUCCEEDED) -> StageStatus:
    return StageStatus(
        "refine", state, Progress(done, 100), 2, START, START + timedelta(seconds=seconds), Usage(300, 100)
    )


def test_the_rate_of_a_finished_stage_is_that_of_the_time_it_took() -> None:
    assert rate(stage(50, 25)) == 2
    assert stage_cells(stage(50, 25)) == ["succeeded", "50/100", "2", "2.0/s", "", "25s"]
    assert stage_cells(stage(5, 100))[3] == "3.0/min"


def test_only_a_running_stage_has_time_left() -> None:
    assert remaining(stage(50, 25)) is None
    assert remaining(stage(50, 25, StageState.RUNNING)) == 25
    assert remaining(stage(0, 25, StageState.RUNNING)) is None


def test_the_newest_iteration_with_refinements_is_found() -> None:
    iterations = [Iteration(0), Iteration(1, [stage(5, 1)]), Iteration(2, [stage(0, 1)])]
    assert newest_refined(Run("runs/a", RunSpec(), iterations=iterations)) == 1
    assert newest_refined(Run("runs/a", RunSpec())) == 1


def test_a_preview_is_scaled_up_to_the_whole_run() -> None:
    cost = stage_cost(stage(50, 25), rows_of_whole_run(RunSpec(iterations=2, contexts_per_iteration=500), None))
    assert (cost.expected_seconds, cost.expected_tokens) == (500, 8000)


def test_nothing_is_expected_where_the_rows_of_the_whole_run_are_not_known() -> None:
    cost = stage_cost(stage(50, 25), rows_of_whole_run(RunSpec(), None))
    assert (cost.expected_seconds, cost.expected_tokens) == (None, None)
