import pytest

from services.orchestrator.stages.feedback import says_nothing


@pytest.mark.parametrize(
    "text", ["Nothing to change.", " nothing to change", "NOTHING  TO\nCHANGE!", '"Nothing to change"']
)
def test_case_and_outer_punctuation_do_not_matter(text: str) -> None:
    assert says_nothing(text, ["nothing to change"])


@pytest.mark.parametrize("text", ["Nothing to change but the end.", "change", ""])
def test_other_texts_ask_for_a_change(text: str) -> None:
    assert not says_nothing(text, ["nothing to change"])
