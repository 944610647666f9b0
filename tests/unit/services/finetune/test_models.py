import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.finetune.models import (
    MAX_CONDITIONS,
    TRANSITIONS,
    Condition,
    FinetuneJob,
    FinetuneKind,
    FinetuneSpec,
    JobState,
    job_id_of,
)


def _job(state: JobState = JobState.PENDING) -> FinetuneJob:
    return FinetuneJob("ft-1", "r", FinetuneSpec(FinetuneKind.SFT, "b", "d", "o"), state, create_time=1.0)


def _condition(message: str = "m", since: float = 5.0) -> Condition:
    return Condition("Type", "REASON", message, since)


@pytest.mark.parametrize("before", JobState)
@pytest.mark.parametrize("after", JobState)
def test_only_the_table_allows_a_move(before: JobState, after: JobState) -> None:
    if after is before or after in TRANSITIONS[before]:
        assert _job(before).move(after, _condition()).state is after
    else:
        with pytest.raises(ValueError, match="cannot go"):
            _job(before).move(after, _condition())


def test_the_ends_have_no_way_out() -> None:
    assert {state for state in JobState if state.ended} == {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}


def test_times_are_those_of_the_first_run_and_of_the_end() -> None:
    job = _job().move(JobState.RUNNING, _condition("first", 2.0))
    job = job.move(JobState.PENDING, _condition("died", 3.0)).move(JobState.RUNNING, _condition("again", 4.0))
    job = job.move(JobState.SUCCEEDED, _condition("done", 9.0))
    assert (job.start_time, job.end_time) == (2.0, 9.0)
    assert [condition.message for condition in job.conditions] == ["first", "died", "again", "done"]


def test_saying_the_same_again_changes_nothing() -> None:
    job = _job().explain(_condition(since=5.0))
    assert job.explain(_condition(since=6.0)) is job


@given(st.text(min_size=1), st.text(min_size=1))
def test_ids_follow_from_request_ids_and_fit_kubernetes_names(left: str, right: str) -> None:
    assert (job_id_of(left) == job_id_of(right)) == (left == right)
    assert len(job_id_of(left)) <= 40
    assert job_id_of(left).replace("-", "").isalnum()


def test_conditions_do_not_grow_for_ever() -> None:
    job = _job()
    for number in range(MAX_CONDITIONS + 5):
        job = job.explain(_condition(f"number {number}"))
    assert len(job.conditions) == MAX_CONDITIONS
    assert job.conditions[-1].message == f"number {MAX_CONDITIONS + 4}"
