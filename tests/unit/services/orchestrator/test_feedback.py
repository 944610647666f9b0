import pytest

from services.orchestrator.stages.feedback import says_nothing, together


@pytest.mark.parametrize(
    "text", ["Nothing to change.", " nothing to change", "NOTHING  TO\nCHANGE!", '"Nothing to change"']
)
def test_case_and_outer_punctuation_do_not_matter(text: str) -> None:
    assert says_nothing(text, ["nothing to change"])


@pytest.mark.parametrize("text", ["Nothing to change but the end.", "change", ""])
def test_other_texts_ask_for_a_change(text: str) -> None:
    assert not says_nothing(text, ["nothing to change"])


def test_who_wants_no_change_counts_only_where_nobody_wants_one() -> None:
    phrases = ["Nothing to change."]
    assert together(["nothing to change", "Shorter.", "Kinder."], phrases) == "Shorter.\nKinder."
    assert together(["nothing to change", "Nothing to change!"], phrases) == "nothing to change"
    assert together([], phrases) == ""
