from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ilf_common.errors import FailedPreconditionError
from services.orchestrator.tasks import Answer, Task, TaskKind, TaskState, parent_run, parse_task_name

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=15)
ONE = Answer("one")
TASK = Task(TaskKind.FEEDBACK, "a", "t1", "g", 1, 0, "item", "context", "output")


def reason_of(task: Task, annotator: str, now: datetime = NOW) -> str:
    with pytest.raises(FailedPreconditionError) as caught:
        task.answered(annotator, Answer("text"), now)
    return caught.value.reason


def test_the_holder_of_a_lease_answers_and_changes_the_answer() -> None:
    done = TASK.leased_to("ann", NOW).answered("ann", ONE, NOW)
    assert done.state is TaskState.DONE and done.lease_expire_time is None
    assert done.answered("ann", Answer("two"), NOW).answer == Answer("two")


def test_a_repeated_answer_is_no_error_even_when_the_run_has_gone_on() -> None:
    done = TASK.leased_to("ann", NOW).answered("ann", ONE, NOW)
    closed = replace(done, closed=True)
    assert closed.answered("ann", ONE, NOW) is closed
    assert reason_of(closed, "ann") == "TASK_DONE"


def test_others_and_late_comers_are_refused() -> None:
    leased = TASK.leased_to("ann", NOW)
    assert reason_of(TASK, "ann") == "LEASE_EXPIRED"
    assert reason_of(leased, "bob") == "LEASE_TAKEN"
    assert reason_of(leased, "ann", LATER) == "LEASE_EXPIRED"
    assert reason_of(leased.answered("ann", ONE, NOW), "bob") == "TASK_DONE"


def test_a_task_that_is_given_back_is_open_again() -> None:
    back = TASK.leased_to("ann", NOW).given_back("ann", NOW)
    assert back == TASK


@pytest.mark.parametrize(
    ("parent", "run_id"), [("runs/a", "a"), ("runs/-", ""), ("a", None), ("runs/", None), ("runs/a/b", None)]
)
def test_parents_are_runs_or_all_of_them(parent: str, run_id: str | None) -> None:
    assert parent_run(parent) == run_id


def test_a_late_repeat_of_an_older_answer_leaves_the_newer_one() -> None:
    first = TASK.leased_to("ann", NOW).answered("ann", ONE, NOW, "id-1")
    edited = first.answered("ann", Answer("two"), LATER, "id-2")
    assert (edited.answer, edited.answer_time) == (Answer("two"), LATER)
    assert edited.answered("ann", ONE, LATER, "id-1") is edited
    assert edited.answered("ann", ONE, LATER, "id-3").answer == ONE


def test_a_repeat_is_no_error_when_the_task_has_gone_on() -> None:
    done = TASK.leased_to("ann", NOW).answered("ann", ONE, NOW, "id-1")
    closed = replace(done.answered("ann", Answer("two"), NOW, "id-2"), closed=True)
    assert closed.answered("ann", ONE, NOW, "id-1") is closed
    with_bob = done.given_back("ann", NOW, "id-2").leased_to("bob", NOW)
    assert with_bob.answered("ann", ONE, NOW, "id-1") is with_bob
    assert with_bob.given_back("ann", NOW, "id-2") is with_bob


def test_the_same_answer_under_another_id_keeps_its_time_and_both_ids_are_known() -> None:
    first = TASK.leased_to("ann", NOW).answered("ann", ONE, NOW, "id-1")
    again = first.answered("ann", ONE, LATER, "id-2")
    assert again.answer_time == NOW
    edited = again.answered("ann", Answer("two"), LATER, "id-3")
    assert edited.answered("ann", ONE, LATER, "id-2") is edited


def test_ids_are_of_one_annotator_and_an_empty_one_is_none() -> None:
    done = TASK.leased_to("ann", NOW).answered("ann", ONE, NOW, "id-1")
    with_bob = done.given_back("ann", NOW).leased_to("bob", NOW)
    assert with_bob.answered("bob", Answer("two"), NOW, "id-1").answer == Answer("two")
    without = TASK.leased_to("ann", NOW).answered("ann", ONE, NOW)
    assert without.requests == ()
    assert without.answered("ann", Answer("two"), NOW).answer == Answer("two")


def test_no_more_than_the_last_ids_are_kept_however_long_they_are() -> None:
    task = TASK.leased_to("ann", NOW)
    for number in range(40):
        task = task.answered("ann", Answer(str(number)), NOW, f"{number} " + "x" * 10_000)
    assert len(task.requests) == 16 and max(map(len, task.requests)) <= 32
    assert task.answered("ann", ONE, NOW, "24 " + "x" * 10_000) is task


def test_task_names_go_round_trip() -> None:
    assert parse_task_name(TaskKind.FEEDBACK, TASK.name) == ("a", "t1")
    assert parse_task_name(TaskKind.COMPARISON, TASK.name) is None
