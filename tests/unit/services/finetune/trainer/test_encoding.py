from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilf_common.rewards.comparisons import Comparison
from ilf_common.rewards.inputs import RewardInputs
from ilf_common.rewards.kinds import RewardLoss
from ilf_common.templates import PromptTemplate
from services.finetune.trainer.data import SftItem, SftRow
from services.finetune.trainer.encoding import IGNORED, answer_items, encode_items, encode_pairs
from services.finetune.trainer.outcome import FailureReason, TrainerError

TEMPLATE = PromptTemplate("p", "<{context}>", target_prefix=" ")
EOS = 0


class Characters:
    """One token a character, 0 at the end."""

    def encode_prompt(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def encode_completion(self, text: str, add_eos: bool) -> list[int]:
        return [*map(ord, text), *[EOS] * add_eos]


HEAD = RewardInputs(RewardLoss.BRADLEY_TERRY, Characters())


def items(*weights: float, context: str = "ab", completion: str = "xyz") -> list[SftItem]:
    rows = tuple(SftRow(number, context, completion, weight) for number, weight in enumerate(weights, start=1))
    return [SftItem("item", rows)]


@given(
    context=st.text(max_size=8),
    completion=st.text(max_size=8),
    weight=st.floats(1e-6, 1),
    prompt_weight=st.floats(0, 1),
)
def test_weights_and_labels_fit_the_tokens(context: str, completion: str, weight: float, prompt_weight: float) -> None:
    made = encode_items(
        items(weight, context=context, completion=completion),
        Characters(),
        TEMPLATE,
        prompt_loss_weight=prompt_weight,
        max_length=100,
    )
    row = made[0].rows[0]
    prompt = len(context) + 2
    assert row.input_ids == [*map(ord, f"<{context}> {completion}"), EOS]
    assert row.loss_weights[:prompt] == [weight * prompt_weight] * prompt
    assert row.loss_weights[prompt:] == [weight] * (len(completion) + 2)
    for token, label, token_weight in zip(row.input_ids, row.labels, row.loss_weights, strict=True):
        assert label == (token if token_weight > 0 else IGNORED)


def test_rows_that_are_too_long_are_refused_by_id() -> None:
    with pytest.raises(TrainerError) as raised:
        encode_items(
            [*items(1.0), SftItem("other", (SftRow(7, "ab", "x" * 20, 1.0),))],
            Characters(),
            TEMPLATE,
            prompt_loss_weight=0,
            max_length=10,
        )
    assert raised.value.reason is FailureReason.BAD_DATA
    assert (
        "1 problems" in raised.value.message and "row 7 (item other): 26 tokens, more than 10" in raised.value.message
    )


def test_pairs_share_their_prompt_and_end_with_eos() -> None:
    (pair,), _ = encode_pairs([Comparison(1, "p", "x", "yy", 0.5)], HEAD, max_length=10)
    assert (pair.chosen, pair.rejected, pair.row.margin) == ([112, 120, EOS], [112, 121, 121, EOS], 0.5)


def test_pairs_that_are_too_long_are_counted_and_named() -> None:
    pairs = [Comparison(1, "p", "x", "y"), Comparison(2, "p", "x", "y" * 20), Comparison(3, "p", "x" * 20, "y")]
    with pytest.raises(TrainerError, match=r"2 problems.*row 2: 22 tokens.*row 3: 22 tokens"):
        encode_pairs(pairs, HEAD, max_length=10)


class Folding(Characters):
    """Cannot tell upper from lower case."""

    def encode_completion(self, text: str, add_eos: bool) -> list[int]:
        return super().encode_completion(text.lower(), add_eos)


def test_pairs_of_the_same_tokens_are_left_out_and_counted() -> None:
    pairs = [Comparison(1, "p", "x", "X"), Comparison(2, "p", "x", "y")]
    encoded, alike = encode_pairs(pairs, RewardInputs(RewardLoss.BRADLEY_TERRY, Folding()), max_length=10)
    assert [pair.row.number for pair in encoded] == [2] and alike == 1


@pytest.mark.parametrize("loss", [RewardLoss.YES_NO, RewardLoss.A_B])
def test_a_question_is_learned_up_to_the_token_where_its_answers_part(loss: RewardLoss) -> None:
    inputs = RewardInputs(loss, Characters())
    assert inputs.answers is not None
    pairs, _ = encode_pairs([Comparison(1, "text", "good", "bad")], inputs, max_length=1000)
    (item,) = answer_items(pairs, inputs.answers, prompt_loss_weight=0.0)
    positive, negative = item.rows
    for row, answer in ((positive, inputs.question.positive_answers), (negative, inputs.question.negative_answers)):
        read = "".join(map(chr, row.input_ids))
        assert read.endswith(f"Reply:{answer[0][:2]}")
        assert row.labels[:-1] == [IGNORED] * (len(row.labels) - 1) and row.labels[-1] == ord(answer[0][1])
        assert sum(row.loss_weights) == 1.0
    assert "good" in "".join(map(chr, positive.input_ids))
    if loss is RewardLoss.A_B:
        shown = ["".join(map(chr, row.input_ids)) for row in item.rows]
        assert shown[0].index("good") < shown[0].index("bad") and shown[1].index("bad") < shown[1].index("good")
