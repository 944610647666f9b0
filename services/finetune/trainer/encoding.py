"""Turns rows into token ids before training starts, with the encoder that serves the model later."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from ilf_common.rewards.comparisons import Comparison
from ilf_common.rewards.inputs import RewardInputs
from ilf_common.templates import PromptTemplate
from services.finetune.trainer.data import RowProblems, SftItem

IGNORED = -100
"""Label of a token that is not learned."""


class Encoder(Protocol):
    """`ilf_common.engine.prompt_encoder.PromptEncoder`, as far as it is used here."""

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a whole prompt, with its special tokens."""
        ...

    def encode_completion(self, text: str, add_eos: bool) -> list[int]:
        """Ids of a continuation, without special tokens but the last."""
        ...


@dataclass(frozen=True)
class EncodedRow:
    """One sequence.

    Attributes:
        input_ids: Prompt, completion, end-of-sequence token.
        labels: The ids that are learned, `IGNORED` where the weight is 0.
        loss_weights: Token weight times row weight; what multiplies each token's log-likelihood.
    """

    input_ids: list[int]
    labels: list[int]
    loss_weights: list[float]


@dataclass(frozen=True)
class EncodedItem:
    """The sequences of one item."""

    rows: tuple[EncodedRow, ...]


@dataclass(frozen=True)
class EncodedPair:
    """The two sequences of a comparison: of the chosen text and of the rejected one, as `RewardInputs.pair` makes them.

    For A_B they are the question with the chosen text shown first, and with the rejected one shown first.
    """

    row: Comparison
    chosen: list[int]
    rejected: list[int]


def encode_items(
    items: Iterable[SftItem], encoder: Encoder, template: PromptTemplate, *, prompt_loss_weight: float, max_length: int
) -> list[EncodedItem]:
    """Encodes SFT items.

    A row's weight multiplies the *summed* log-likelihood of its sequence: every completion token weighs the row's
    weight, every prompt token `prompt_loss_weight` times as much.

    Raises:
        TrainerError: BAD_DATA; sequences longer than `max_length`, by row and item.
    """
    problems = RowProblems()
    encoded = []
    for item in items:
        rows = []
        for row in item.rows:
            prompt = encoder.encode_prompt(template.render(context=row.context))
            completion = encoder.encode_completion(template.target_prefix + row.completion, add_eos=True)
            length = len(prompt) + len(completion)
            if length > max_length:
                problems.add(f"row {row.number} (item {item.id[:80]})", f"{length} tokens, more than {max_length}")
            if length < 2:
                problems.add(f"row {row.number} (item {item.id[:80]})", "the prompt is empty, so nothing is predicted")
            rows.append(_encode_row(prompt, completion, row.weight, prompt_loss_weight))
        encoded.append(EncodedItem(tuple(rows)))
    problems.refuse_if_any()
    return encoded


def _encode_row(prompt: list[int], completion: list[int], weight: float, prompt_loss_weight: float) -> EncodedRow:
    input_ids = prompt + completion
    loss_weights = [weight * prompt_loss_weight] * len(prompt) + [weight] * len(completion)
    labels = [token if value > 0 else IGNORED for token, value in zip(input_ids, loss_weights, strict=True)]
    return EncodedRow(input_ids, labels, loss_weights)


def encode_pairs(rows: Iterable[Comparison], inputs: RewardInputs, *, max_length: int) -> tuple[list[EncodedPair], int]:
    """Encodes comparisons, exactly as the reward service encodes them.

    Returns:
        The pairs, and how many were left out because their texts are the same tokens.

    Raises:
        TrainerError: BAD_DATA; pairs with a side longer than `max_length`, by row.
    """
    problems = RowProblems()
    encoded = []
    alike = 0
    for row in rows:
        chosen, rejected = inputs.pair(row.context, row.chosen, row.rejected)
        longest = max(len(chosen), len(rejected))
        if longest > max_length:
            problems.add(f"row {row.number}", f"{longest} tokens, more than {max_length}")
        elif chosen == rejected:
            alike += 1
        else:
            encoded.append(EncodedPair(row, chosen, rejected))
    problems.refuse_if_any()
    return encoded, alike


def answer_items(
    pairs: Iterable[EncodedPair], answers: tuple[int, int], *, prompt_loss_weight: float
) -> list[EncodedItem]:
    """Comparisons as questions with their right answers, to be learned like any other completion.

    The positive answer belongs to the sequence of the chosen text, the negative one to the other: for YES_NO "Yes" and
    "No", for A_B "A" and "B", one for each order. Both are one item, so that they share a batch.

    Args:
        pairs: Encoded questions.
        answers: Tokens of the positive and the negative answer.
        prompt_loss_weight: Weight of a question's tokens in the loss.
    """
    positive, negative = answers
    return [
        EncodedItem(
            (
                _encode_row(pair.chosen, [positive], 1.0, prompt_loss_weight),
                _encode_row(pair.rejected, [negative], 1.0, prompt_loss_weight),
            )
        )
        for pair in pairs
    ]
