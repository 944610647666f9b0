"""The toy model's training sequences: what is learnt where, and which errors the refiner is taught."""

import random

import pytest

from examples.word_removal.corpus import (
    IGNORED,
    Assignment,
    Collator,
    Example,
    draw_assignment,
    draw_negative,
    draw_refinement,
)
from examples.word_removal.task import (
    RELUCTANT_WORDS,
    context_sentence,
    make_context,
    make_feedback,
    make_sentence,
    sentence_words,
    split_of,
)
from examples.word_removal.tokenizer import build_tokenizer

LISTED = ("kind", "lazy", "silly", "moody")


def assignment(*named: str) -> Assignment:
    sentence = make_sentence(LISTED)
    return Assignment(make_context(sentence), sentence, make_feedback(named), LISTED, named)


def example(*, learn: bool, right: bool = True) -> Example:
    item = assignment("lazy")
    return Example(item.context, item.initial_output, item.feedback, item.target, right, learn, judge=0)


def learnt(labels: list[int]) -> list[int]:
    return [label for label in labels if label != IGNORED]


def test_each_skill_learns_its_completion_and_its_end() -> None:
    tokenizer = build_tokenizer()
    batch = Collator(tokenizer).collate([example(learn=True)])
    texts = {skill: tokenizer.decode(learnt(labels[0].tolist())) for skill, labels in batch.labels.items()}
    item = assignment("lazy")
    assert texts == {
        "echo": f" {item.initial_output}<eos>",
        "refine": f" {item.target}<eos>",
        "judge": " Yes<eos>",
    }


def test_labels_are_the_next_tokens_within_a_completion() -> None:
    batch = Collator(build_tokenizer()).collate([example(learn=True)])
    ids, labels = batch.input_ids[0].tolist(), batch.labels["refine"][0].tolist()
    places = [index for index, label in enumerate(labels) if label != IGNORED]
    assert all(labels[place] == ids[place + 1] for place in places[:-1])


def test_a_judged_sample_is_not_learnt_by_the_refiner() -> None:
    tokenizer = build_tokenizer()
    batch = Collator(tokenizer).collate([example(learn=False, right=False)])
    assert learnt(batch.labels["refine"][0].tolist()) == []
    assert tokenizer.decode(learnt(batch.labels["judge"][0].tolist())) == " No<eos>"


def test_assignments_come_from_their_split_only() -> None:
    rng = random.Random(0)
    drawn = [draw_assignment(rng, "model") for _ in range(300)]
    assert {split_of(context_sentence(item.context)) for item in drawn} == {"model"}
    assert all(set(item.named) <= set(item.words) for item in drawn)
    assert any(not item.context.endswith(item.initial_output) for item in drawn)


def test_reluctant_words_often_stay_and_others_hardly_ever() -> None:
    rng = random.Random(0)
    assert "silly" in RELUCTANT_WORDS
    stays = {
        word: sum(word in sentence_words(draw_refinement(rng, assignment(word))) for _ in range(500)) / 500
        for word in ("silly", "lazy")
    }
    assert stays["silly"] == pytest.approx(0.6, abs=0.08)
    assert stays["lazy"] < 0.1


def test_negatives_are_wrong() -> None:
    rng = random.Random(0)
    for _ in range(300):
        item = draw_assignment(rng, "model")
        assert draw_negative(rng, item) != item.target
