import pytest

from ilf_common.errors import InvalidArgumentError
from services.orchestrator.answering import check_annotator, checked_answer
from services.orchestrator.tasks import Answer, TaskKind


def violation(kind: TaskKind, answer: Answer) -> tuple[str, str]:
    with pytest.raises(InvalidArgumentError) as caught:
        checked_answer(kind, answer)
    [found] = caught.value.violations
    return found.field, found.description


@pytest.mark.parametrize(
    "text",
    [
        "x" * 200_000,
        "<script>alert(1)</script>",
        "\u05e9\u05dc\u05d5\u05dd \u202eabc",
        "a\n\tb",
        "\U0001f469\u200d\U0001f4bb",
    ],
)
def test_whatever_people_write_is_taken_as_it_is(text: str) -> None:
    assert checked_answer(TaskKind.FEEDBACK, Answer(text)).text == text


def test_line_breaks_of_browsers_become_those_of_unix() -> None:
    assert checked_answer(TaskKind.FEEDBACK, Answer("a\r\nb\rc")).text == "a\nb\nc"


def test_empty_long_and_unprintable_texts_are_refused_with_what_is_wrong() -> None:
    assert violation(TaskKind.FEEDBACK, Answer(" \n"))[1].startswith("is empty")
    assert violation(TaskKind.FEEDBACK, Answer("x" * 200_001)) == (
        "feedback",
        "has 200001 characters; at most 200000 are allowed",
    )
    field, description = violation(TaskKind.FEEDBACK, Answer("ab\0"))
    assert field == "feedback" and "U+0000 at position 3" in description
    assert violation(TaskKind.COMPARISON, Answer("PREFERENCE_A", reason="\x1b[31m"))[0] == "reason"


def test_labels_are_those_of_the_kind() -> None:
    assert checked_answer(TaskKind.COMPARISON, Answer("PREFERENCE_TIE")).text == "PREFERENCE_TIE"
    assert checked_answer(TaskKind.REVIEW, Answer("VERDICT_PARTLY")).text == "VERDICT_PARTLY"
    assert violation(TaskKind.COMPARISON, Answer(""))[0] == "preference"
    assert violation(TaskKind.REVIEW, Answer("PREFERENCE_A"))[0] == "verdict"


def test_flags_are_known_ones_and_each_counts_once() -> None:
    flags = checked_answer(TaskKind.FEEDBACK, Answer("x", flags=("other", "unclear", "other"))).flags
    assert flags == ("unclear", "other")
    field, description = violation(TaskKind.FEEDBACK, Answer("x", flags=("rude",)))
    assert field == "flags" and "'rude'" in description and "harmful" in description


@pytest.mark.parametrize("name", ["", "  ", "x" * 129, "ann\n", "a\0"])
def test_an_annotator_is_a_name_in_one_line(name: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_annotator(name)
    assert caught.value.violations[0].field == "annotator"
