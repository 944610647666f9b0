from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilf_common.engine.port import FinishReason, Sample
from services.refinement.models import PostProcessing
from services.refinement.post_processing import arrange, clean, clean_samples, drop_unfinished_sentence, wants_more

ALL = PostProcessing(normalize_whitespace=True, first_line_only=True, drop_unfinished_sentence=True)
texts = st.text(alphabet="aB1 .?!\n\t\"'(),-é", max_size=60)
options = st.builds(
    PostProcessing,
    normalize_whitespace=st.booleans(),
    first_line_only=st.booleans(),
    drop_unfinished_sentence=st.booleans(),
)


def sample(text: str) -> Sample:
    return Sample(text, 1, FinishReason.STOP, -1.0)


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        (': "-- A  summary.\tOf two.  And a', "A summary. Of two."),
        ("\n\n One line.\nAnother line.", "One line."),
        ("no mark at all", "no mark at all"),
        ("...", ""),
        ("", ""),
    ],
)
def test_all_steps_together(raw: str, cleaned: str) -> None:
    assert clean(raw, ALL) == cleaned


def test_nothing_is_changed_without_options() -> None:
    assert clean("  - a\n\n b. c", PostProcessing()) == "  - a\n\n b. c"


def test_squeezing_keeps_line_breaks() -> None:
    assert clean("a  b\n\n\nc", PostProcessing(normalize_whitespace=True)) == "a b\nc"


def test_first_line_is_the_first_one_with_text() -> None:
    assert clean("\r\n\nfirst\r\nsecond", PostProcessing(first_line_only=True)) == "first"


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("It costs 3.50 and is", "It costs 3.50 and is"),
        ("It is done. It costs 3.50 and", "It is done."),
        ("Fruit is good. Eat some, e.g. apples and", "Fruit is good."),
        ("We saw Dr. Smith and", "We saw Dr. Smith and"),
        ("They met J. Smith and", "They met J. Smith and"),
        ("Take plan B. Then", "Take plan B. Then"),
        ("So did I. Then", "So did I."),
        ('He said "no." Then', 'He said "no."'),
        ("Really?! Yes", "Really?!"),
        ("Wait... what", "Wait..."),
        ("All is well.", "All is well."),
    ],
)
def test_unfinished_sentence_is_dropped_but_numbers_and_abbreviations_are_not_cut(raw: str, kept: str) -> None:
    assert drop_unfinished_sentence(raw) == kept


@given(texts, options)
def test_cleaning_twice_is_cleaning_once(text: str, chosen: PostProcessing) -> None:
    once = clean(text, chosen)
    assert clean(once, chosen) == once


@given(texts, options)
def test_cleaning_only_takes_away(text: str, chosen: PostProcessing) -> None:
    letters = [character for character in text if not character.isspace()]
    kept = [character for character in clean(text, chosen) if not character.isspace()]
    start = 0
    for character in kept:
        start = letters.index(character, start) + 1


@given(st.lists(st.sampled_from(["", " ", "one", "two", "three", "a bad one"]), min_size=1, max_size=12), st.data())
def test_arranging_prefers_unique_then_duplicates_then_the_rest_in_order(drawn: list[str], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(drawn)))
    samples = [sample(text) for text in drawn]
    options = PostProcessing(resample_budget=len(drawn), forbidden_substrings=("bad",))

    arranged = arrange(samples, count, options)

    def group(position: int) -> int:
        text = samples[position].text
        if not text.strip() or "bad" in text:
            return 2
        return 1 if text in drawn[:position] else 0

    positions = [next(k for k, known in enumerate(samples) if known is chosen) for chosen in arranged]
    keys = [(group(position), position) for position in positions]
    assert len(arranged) == count
    assert keys == sorted(keys)
    assert max(keys) <= min(((group(k), k) for k in range(len(samples)) if k not in positions), default=(3, 0))


@pytest.mark.parametrize(
    ("drawn", "budget", "wanted"),
    [
        (["a", "b"], 8, False),
        (["a", "a"], 8, True),
        (["a", " "], 8, True),
        (["a", "a bad one"], 8, True),
        (["a", "a"], 2, False),
        (["a", "a"], 0, False),
    ],
)
def test_more_is_drawn_for_duplicates_empties_and_forbidden_ones_within_the_budget(
    drawn: list[str], budget: int, wanted: bool
) -> None:
    options = PostProcessing(resample_budget=budget, forbidden_substrings=("bad",))

    assert wants_more([sample(text) for text in drawn], options) is wanted


def test_target_prefix_is_taken_off_before_cleaning() -> None:
    cleaned = clean_samples([sample("=> text"), sample("text")], "=> ", PostProcessing())

    assert [sample.text for sample in cleaned] == ["text", "text"]
