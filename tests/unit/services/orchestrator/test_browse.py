from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb

from ilf_common.errors import InvalidArgumentError
from ilf_common.rpc.pagination import page
from services.orchestrator.browse import matching, newest_first
from services.orchestrator.convert import run_states_from_proto
from services.orchestrator.models import RunSpec
from services.orchestrator.run import Run, RunState

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
RUNS = [
    Run("zebra", RunSpec(), RunState.SUCCEEDED, BEGIN, policy="zebra/it-2"),
    Run("apple", RunSpec(), RunState.FAILED, BEGIN + timedelta(microseconds=1), policy="Base"),
    Run("mango", RunSpec(), RunState.WAITING, BEGIN + timedelta(days=400), policy="base"),
    Run("melon", RunSpec(), RunState.WAITING, BEGIN + timedelta(days=400), policy="other"),
]


@pytest.mark.parametrize(
    ("states", "text", "expected"),
    [
        ((), "", "zebra apple mango melon"),
        ((RunState.WAITING,), "", "mango melon"),
        ((RunState.WAITING, RunState.FAILED), "BASE", "apple mango"),
        ((), "runs/m", "mango melon"),
        ((), "IT-2", "zebra"),
        ((RunState.SUCCEEDED,), "base", ""),
    ],
)
def test_runs_are_found_by_state_name_and_policy(states: tuple[RunState, ...], text: str, expected: str) -> None:
    assert [run.id for run in matching(RUNS, states, text)] == expected.split()


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_newest_run_comes_first_page_after_page(size: int) -> None:
    found: list[str] = []
    token = ""
    while True:
        runs, token = page(RUNS, size, token, key=newest_first)
        found += [run.id for run in runs]
        if not token:
            break
    assert found == ["mango", "melon", "apple", "zebra"]


@pytest.mark.parametrize("state", [pb.RUN_STATE_UNSPECIFIED, 99])
def test_a_state_that_no_run_is_in_is_refused(state: int) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        run_states_from_proto([pb.RUN_STATE_FAILED, state])
    assert caught.value.violations[0].field == "states[1]"
