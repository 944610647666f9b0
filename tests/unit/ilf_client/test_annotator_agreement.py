import pytest

from ilf_client.agreement import comparison_agreement, review_agreement
from ilf_client.models.tasks import ComparisonTask, Preference, ReviewTask, TaskState, Verdict


def review(item: str, annotator: str, verdict: Verdict, state: TaskState = TaskState.DONE) -> ReviewTask:
    name = f"runs/toy/reviewTasks/{item}-{annotator}"
    return ReviewTask(name, item, "c", "x0", "f", "x1", annotator=annotator, state=state, verdict=verdict, iteration=1)


def pair(item: str, annotator: str, a: str, b: str, preference: Preference) -> ComparisonTask:
    name = f"runs/toy/comparisonTasks/{item}-{annotator}"
    return ComparisonTask(name, item, "c", a, b, annotator=annotator, state=TaskState.DONE, preference=preference)


def test_reviews_of_several_people_are_compared() -> None:
    found = review_agreement(
        [
            review("1", "ann", Verdict.YES),
            review("1", "bob", Verdict.YES),
            review("2", "ann", Verdict.NO),
            review("2", "bob", Verdict.NO),
            review("3", "ann", Verdict.YES),
            review("3", "bob", Verdict.NO),
            review("4", "ann", Verdict.NO),
            review("4", "bob", Verdict.YES),
            review("5", "ann", Verdict.PARTLY),
            review("6", "bob", Verdict.YES, TaskState.LEASED),
        ]
    )
    assert found.alpha == pytest.approx(0.125) and (found.items, found.annotators) == (4, 2)
    assert [(one.annotator, one.share, one.labels) for one in found.by_annotator] == [("ann", 0.5, 4), ("bob", 0.5, 4)]


def test_the_order_in_which_a_pair_was_seen_does_not_matter() -> None:
    found = comparison_agreement(
        [
            pair("1", "ann", "one", "two", Preference.A),
            pair("1", "bob", "two", "one", Preference.B),
            pair("2", "ann", "one", "two", Preference.TIE),
            pair("2", "bob", "two", "one", Preference.TIE),
        ]
    )
    assert found.alpha == 1.0 and found.items == 2


def test_nothing_is_said_where_nobody_was_asked_twice() -> None:
    assert review_agreement([review("1", "ann", Verdict.YES)]).alpha is None
