from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilf_common.errors import InvalidArgumentError
from services.ranking.answers import AnswerPlan, combine, judge_score, plan_answers
from services.ranking.models import AnswerLogprobs

VOCABULARY = "abc"


def letters(text: str) -> list[int]:
    """A tokenizer with one token per letter."""
    return [VOCABULARY.index(letter) for letter in text]


class LetterModel:
    """A language model over three letters and a stop token, whose distribution depends on the last letter alone."""

    def __init__(self, rows: list[list[float]]) -> None:
        # Row 0 is for the beginning, row 1 + t for what follows token t; column 3 is the stop.
        self.rows = [[weight / sum(row) for weight in row] for row in rows]

    def logprob(self, ids: tuple[int, ...]) -> float:
        state, total = 0, 0.0
        for token in ids:
            total += math.log(self.rows[state][token])
            state = token + 1
        return total

    def starts_with_any(self, spellings: list[str], not_with: list[str], length: int) -> float:
        """Probability that a continuation starts with a spelling, and not with a longer one of the other side.

        Sums over all continuations of one length: the definition, written out.
        """
        return self._walk((), 0, 1.0, spellings, not_with, length)

    def _walk(
        self, ids: tuple[int, ...], state: int, mass: float, own: list[str], other: list[str], left: int
    ) -> float:
        if left == 0:
            return mass if self._counts(ids, own, other) else 0.0
        total = mass * self.rows[state][3] if self._counts(ids, own, other) else 0.0
        for token in range(3):
            total += self._walk((*ids, token), token + 1, mass * self.rows[state][token], own, other, left - 1)
        return total

    @staticmethod
    def _counts(ids: tuple[int, ...], own: list[str], other: list[str]) -> bool:
        def shortest(texts: list[str]) -> int:
            lengths = [len(text) for text in texts if tuple(letters(text)) == ids[: len(text)]]
            return min(lengths, default=0)

        mine, theirs = shortest(own), shortest(other)
        return mine > theirs


spellings = st.lists(st.text(VOCABULARY, min_size=1, max_size=3), min_size=1, max_size=4)
rows = st.lists(st.lists(st.floats(0.01, 1.0), min_size=4, max_size=4), min_size=4, max_size=4)


def logprobs_of(plan: AnswerPlan, model: LetterModel) -> dict[tuple[int, ...], float]:
    return {ids: model.logprob(ids) for ids in (*plan.positive, *plan.negative)}


def plan_or_none(positive: list[str], negative: list[str]) -> AnswerPlan | None:
    try:
        return plan_answers(positive, negative, letters)
    except InvalidArgumentError:
        return None


@given(spellings, spellings, rows)
def test_mass_of_an_answer_is_that_of_all_continuations_that_start_with_it(
    positive: list[str], negative: list[str], table: list[list[float]]
) -> None:
    plan = plan_or_none(positive, negative)
    if plan is None:
        return
    model = LetterModel(table)
    # What counts is the shortest spelling of each side, so compare on the plan's own prefix-free sides.
    own = ["".join(VOCABULARY[i] for i in ids) for ids in plan.positive]
    other = ["".join(VOCABULARY[i] for i in ids) for ids in plan.negative]
    answer = combine(plan, logprobs_of(plan, model))
    assert math.exp(answer.positive) == pytest.approx(model.starts_with_any(own, other, 3), abs=1e-9)
    assert math.exp(answer.negative) == pytest.approx(model.starts_with_any(other, own, 3), abs=1e-9)
    assert math.exp(answer.positive) + math.exp(answer.negative) <= 1 + 1e-9


@given(spellings, spellings, rows)
def test_swapping_the_answers_mirrors_the_score(
    positive: list[str], negative: list[str], table: list[list[float]]
) -> None:
    plan, swapped = plan_or_none(positive, negative), plan_or_none(negative, positive)
    assert (plan is None) == (swapped is None)
    if plan is None or swapped is None:
        return
    model = LetterModel(table)
    one = judge_score("j", combine(plan, logprobs_of(plan, model)))
    two = judge_score("j", combine(swapped, logprobs_of(swapped, model)))
    assert one.score == pytest.approx(1 - two.score, abs=1e-9)
    assert one.missing_mass == pytest.approx(two.missing_mass, abs=1e-9)


@given(spellings, spellings)
def test_repeated_and_reordered_spellings_change_nothing(positive: list[str], negative: list[str]) -> None:
    plan = plan_or_none(positive, negative)
    again = plan_or_none([*reversed(positive), *positive], negative)
    assert (plan and (plan.positive, plan.negative)) == (again and (again.positive, again.negative))


def test_spellings_that_share_their_first_token_are_counted_once() -> None:
    plan = plan_answers(["a", "ab", "ac", "a"], ["b"], letters)
    assert plan.positive == ((0,),)
    assert plan.first_tokens == (0, 1)
    assert not plan.texts


def test_tokenizer_that_hides_the_leading_space_counts_both_spellings_once() -> None:
    plan = plan_answers([" Yes", "Yes"], [" No", "No"], lambda text: [len(text.strip())])
    assert plan.positive == ((3,),)
    assert plan.negative == ((2,),)


def test_same_first_token_on_both_sides_forces_the_full_answers() -> None:
    plan = plan_answers(["ab"], ["ac"], letters)
    assert plan.first_tokens == ()
    assert dict(plan.texts) == {(0, 1): "ab", (0, 2): "ac"}


def test_answers_of_one_and_of_several_tokens_mix() -> None:
    plan = plan_answers(["a", "bc"], ["c"], letters)
    assert plan.first_tokens == (0, 2)
    assert dict(plan.texts) == {(1, 2): "bc"}
    answer = combine(plan, {(0,): math.log(0.2), (1, 2): math.log(0.1), (2,): math.log(0.3)})
    score = judge_score("j", answer)
    assert score.score == pytest.approx(0.5)
    assert score.missing_mass == pytest.approx(0.4)


def test_spelling_that_continues_one_of_the_other_side_is_taken_out_of_it() -> None:
    plan = plan_answers(["a"], ["ab"], letters)
    answer = combine(plan, {(0,): math.log(0.5), (0, 1): math.log(0.2)})
    assert math.exp(answer.positive) == pytest.approx(0.3)
    assert math.exp(answer.negative) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("positive", "negative", "field"),
    [
        ([], ["b"], "template.positive_answers"),
        (["a"], [""], "template.negative_answers"),
        (["ab"], ["b", "ab"], "template.negative_answers"),
    ],
)
def test_answers_that_cannot_be_told_apart_are_refused(positive: list[str], negative: list[str], field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        plan_answers(positive, negative, letters)
    assert [violation.field for violation in caught.value.violations] == [field]


@given(st.floats(-1e5, 0), st.floats(-1e5, 0))
def test_score_is_the_logistic_of_the_difference_however_small_the_masses(positive: float, negative: float) -> None:
    score = judge_score("j", AnswerLogprobs(positive, negative))
    difference = positive - negative
    expected = 1 / (1 + math.exp(-difference)) if difference > -700 else 0.0
    assert score.score == pytest.approx(expected, rel=1e-6, abs=1e-300)
    assert 0 <= score.missing_mass <= 1


def test_no_mass_on_either_answer_is_no_opinion() -> None:
    score = judge_score("j", AnswerLogprobs(-math.inf, -math.inf))
    assert (score.score, score.missing_mass) == (0.5, 1.0)


def test_one_impossible_answer_gives_a_sure_score() -> None:
    score = judge_score("j", AnswerLogprobs(math.log(0.25), -math.inf))
    assert score.score == 1.0
    assert score.missing_mass == pytest.approx(0.75)


def test_nan_is_refused() -> None:
    plan = plan_answers(["a"], ["b"], letters)
    with pytest.raises(ValueError, match="NaN"):
        combine(plan, {(0,): math.nan, (1,): -1.0})
