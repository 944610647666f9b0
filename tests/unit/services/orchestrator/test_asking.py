from dataclasses import replace

from ilf_common.errors import InternalError
from services.orchestrator.asking import comparison_tasks, feedback_tasks, review_tasks
from services.orchestrator.models import FeedbackStage, PeopleSpec, RunSpec, Seconds
from services.orchestrator.rows import Row, Score
from services.orchestrator.shards import ShardId

SHARD = ShardId("toy", 2, "input", 3)
SPEC = RunSpec(feedback=FeedbackStage(annotators_per_item=1, lease=Seconds(60)))
ROW = Row(
    "a",
    "context",
    initial_output="x0",
    feedback="Shorter.",
    refinements=("one", "two", "one", "three"),
    scores=(Score(0.1), Score(0.9), Score(0.1), Score(0.5)),
    chosen_index=1,
)


def test_feedback_is_asked_of_as_many_people_as_are_wanted() -> None:
    spec = replace(SPEC, feedback=replace(SPEC.feedback, annotators_per_item=2))
    tasks = feedback_tasks(spec, SHARD, [ROW.failed("generate", InternalError("x")), ROW])
    assert [task.id for task in tasks] == ["002-00003-0001-00", "002-00003-0001-01"]
    assert {task.group for task in tasks} == {"002-00003-0001"}
    assert {(task.text_a, task.lease_seconds) for task in tasks} == {("x0", 60.0)}


def test_a_pair_is_the_chosen_refinement_and_another_text_with_both_indexes() -> None:
    rows = [replace(ROW, item_id=str(number)) for number in range(40)]
    tasks = comparison_tasks(SPEC, SHARD, rows)
    assert len(tasks) == 40
    for task in tasks:
        assert (task.text_a, task.text_b) == (ROW.refinements[task.candidate_a], ROW.refinements[task.candidate_b])
        assert 1 in (task.candidate_a, task.candidate_b) and task.text_a != task.text_b
    assert {task.candidate_a == 1 for task in tasks} == {True, False}
    assert comparison_tasks(SPEC, SHARD, rows) == tasks


def test_people_who_compare_the_same_pair_see_it_in_either_order() -> None:
    spec = replace(SPEC, people=PeopleSpec(comparisons_per_pair=20))
    tasks = comparison_tasks(spec, SHARD, [ROW])
    assert len({frozenset((task.candidate_a, task.candidate_b)) for task in tasks}) == 1
    assert {task.candidate_a == 1 for task in tasks} == {True, False}


def test_equal_refinements_make_no_pair() -> None:
    assert comparison_tasks(SPEC, SHARD, [replace(ROW, refinements=("one", "one"), scores=(), chosen_index=0)]) == []


def test_the_chosen_refinement_is_reviewed_or_the_best_where_none_is_chosen() -> None:
    spec = replace(SPEC, people=PeopleSpec(reviews_per_item=2))
    first, second = review_tasks(spec, SHARD, [ROW])
    assert (first.text_a, first.text_b, first.feedback, first.candidate_b) == ("x0", "two", "Shorter.", 1)
    assert first.group == second.group and first.id != second.id
    best = replace(ROW, chosen_index=-1, scores=(Score(0.1), Score(0.2), Score(0.9), Score(0.5)))
    assert review_tasks(SPEC, SHARD, [best])[0].candidate_b == 2


def test_items_that_were_not_refined_are_not_reviewed() -> None:
    failed = ROW.failed("refine", InternalError("x"))
    assert review_tasks(SPEC, SHARD, [failed, replace(ROW, nothing_to_change=True), replace(ROW, feedback=None)]) == []


def test_no_text_that_a_database_refuses_gets_into_a_task() -> None:
    [task] = review_tasks(SPEC, SHARD, [replace(ROW, context="a\0b", initial_output="\0", feedback="\0")])
    assert "\0" not in task.context + task.text_a + task.feedback
