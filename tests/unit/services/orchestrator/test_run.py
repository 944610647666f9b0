from datetime import UTC, datetime

import pytest

from ilf_common.errors import FailedPreconditionError
from services.orchestrator.models import RunSpec
from services.orchestrator.run import ENDED, TRANSITIONS, Iteration, Run, RunState, StageState, StageStatus

RUN = Run("a", RunSpec(), RunState.PENDING, datetime(2026, 1, 1, tzinfo=UTC))


def test_a_run_moves_only_as_the_table_says() -> None:
    for state, allowed in TRANSITIONS.items():
        run = Run("a", RunSpec(), state, RUN.create_time)
        for other in RunState:
            if other in allowed:
                assert run.moved_to(other).state is other
            else:
                with pytest.raises(FailedPreconditionError):
                    run.moved_to(other)


def test_only_failed_and_cancelled_runs_begin_again() -> None:
    again = {state for state in ENDED if RunState.PENDING in TRANSITIONS[state]}
    assert again == {RunState.FAILED, RunState.CANCELLED}


def test_stages_stay_in_the_order_of_the_work() -> None:
    run = RUN.with_stage(2, StageStatus("generate")).with_stage(1, StageStatus("generate"))
    run = run.with_stage(1, StageStatus("refine")).with_stage(1, StageStatus("generate", StageState.RUNNING))
    assert [item.index for item in run.iterations] == [1, 2]
    assert [stage.stage for stage in run.iteration(1).stages] == ["generate", "refine"]
    assert run.stage(1, "generate").state is StageState.RUNNING
    assert run.stage(3, "rank") == StageStatus("rank")
    assert run.iteration(9) == Iteration(9)
