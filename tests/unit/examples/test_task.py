"""The toy task: sentences, feedback, targets, splits and data files."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.word_removal.data import LOOP_HIDDEN, LOOP_INSULTS, main, make_contexts, write_datasets
from examples.word_removal.program import HIDDEN_WORDS, exact_match, feedback, target
from examples.word_removal.task import (
    COMPLIMENTS,
    INSULTS,
    NOTHING_TO_CHANGE,
    context_sentence,
    is_exact,
    make_context,
    make_feedback,
    make_sentence,
    make_table,
    remove_words,
    sentence_words,
    split_of,
)

words = st.lists(st.sampled_from(INSULTS + COMPLIMENTS), unique=True, max_size=12)


def test_words_are_distinct_and_keep_the_article_right() -> None:
    everything = INSULTS + COMPLIMENTS
    assert len(set(everything)) == len(everything)
    assert not [word for word in everything if word[0] in "aeiou"]
    assert set(INSULTS) > HIDDEN_WORDS


@given(words)
def test_sentence_and_words_are_inverse(listed: list[str]) -> None:
    assert sentence_words(make_sentence(listed)) == listed


@given(words, st.sets(st.sampled_from(INSULTS)))
def test_removal_drops_exactly_the_named_words(listed: list[str], named: set[str]) -> None:
    left = sentence_words(remove_words(make_sentence(listed), named))
    assert left == [word for word in listed if word not in named]


@given(words)
def test_context_gives_its_sentence_back(listed: list[str]) -> None:
    sentence = make_sentence(listed)
    assert context_sentence(make_context(sentence)) == sentence


@pytest.mark.parametrize("text", ["", "You are kind.", "Hello", "You are a silly"])
def test_other_texts_are_no_sentences(text: str) -> None:
    with pytest.raises(ValueError, match="not a sentence"):
        sentence_words(text)


def test_other_texts_are_no_contexts() -> None:
    with pytest.raises(ValueError, match="not a context"):
        context_sentence("Say this: You are a kind person.")


@given(words)
def test_feedback_names_exactly_the_hidden_words(listed: list[str]) -> None:
    sentence = make_sentence(listed)
    named = [word for word in listed if word in HIDDEN_WORDS]
    assert feedback(make_context(sentence), sentence) == make_feedback(named)
    assert (feedback(make_context(sentence), sentence) == NOTHING_TO_CHANGE) == (not named)


@given(st.text())
def test_feedback_accepts_any_output(text: str) -> None:
    assert feedback(make_context(make_sentence(["kind"])), text)


def test_feedback_names_a_repeated_word_once() -> None:
    assert feedback("", "a grumpy, grumpy bossy thing") == "Remove grumpy, bossy."


@given(words)
def test_following_the_feedback_is_right(listed: list[str]) -> None:
    context = make_context(make_sentence(listed))
    assert exact_match(context, target(context)) == 1.0
    assert exact_match(context, f" {target(context)}\n") == 1.0
    assert exact_match(context, make_sentence(listed)) == float(not HIDDEN_WORDS & set(listed))


def test_table_has_the_papers_cells() -> None:
    items = make_table(seed=3)
    cells = Counter((item.insults, item.named) for item in items)
    assert len(cells) == 27
    assert set(cells.values()) == {50}
    assert all(named <= min(insults, 3) for insults, named in cells)


def test_table_items_are_consistent_and_held_out() -> None:
    for item in make_table(seed=1, per_cell=5):
        listed, left = sentence_words(item.initial_output), sentence_words(item.target)
        gone = [word for word in listed if word not in left]
        assert len(gone) == item.named
        assert len(listed) == item.insults + 1
        assert item.feedback == make_feedback(gone)
        assert set(gone) <= set(INSULTS)
        assert split_of(item.initial_output) == "test"
        assert is_exact(item.target, item.target)


def test_splits_are_disjoint_and_seeded() -> None:
    train, test = make_contexts("train", 200), make_contexts("test", 200)
    assert len(set(train)) == 200
    assert not set(train) & set(test)
    assert make_contexts("train", 50) == train[:50]
    assert make_contexts("train", 50, seed=1) != train[:50]


def test_contexts_of_the_loop_have_something_to_remove() -> None:
    for context in make_contexts("dev", 100):
        listed = sentence_words(context_sentence(context))
        assert len(listed) - 1 in LOOP_INSULTS
        assert len(HIDDEN_WORDS & set(listed)) in LOOP_HIDDEN


def test_no_target_of_training_is_a_test_sentence() -> None:
    tests = {context_sentence(context) for context in make_contexts("test", 300)}
    assert not tests & {target(context) for context in make_contexts("train", 1000)}


def test_files_hold_ids_and_contexts(tmp_path: Path) -> None:
    paths = write_datasets(tmp_path / "new", {"train": 3, "test": 2})
    rows = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    assert [row["id"] for row in rows] == [
        "train-0-00000",
        "train-0-00001",
        "train-0-00002",
        "test-0-00000",
        "test-0-00001",
    ]
    assert [row["context"] for row in rows[:3]] == make_contexts("train", 3)


def test_command_rejects_negative_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--output", str(tmp_path), "--train", "-1"])
    assert "--train cannot be negative" in capsys.readouterr().err
