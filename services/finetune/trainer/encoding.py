"""Turns rows into token ids before training starts, with the encoder that serves the model later."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from ilf_common.templates import PromptTemplate
from services.finetune.trainer.data import Pair, RowProblems, SftItem

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
    """The two sequences of a comparison."""

    chosen: list[int]
    rejected: list[int]
    margin: float


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


def encode_pairs(pairs: Iterable[Pair], encoder: Encoder, *, max_length: int) -> list[EncodedPair]:
    """Encodes comparisons: prompt, text and end-of-sequence token, exactly as the reward service encodes them.

    Raises:
        TrainerError: BAD_DATA; pairs with a side longer than `max_length`, by row, or whose sides encode alike.
    """
    problems = RowProblems()
    encoded = []
    for pair in pairs:
        prompt = encoder.encode_prompt(pair.prompt)
        chosen = prompt + encoder.encode_completion(pair.chosen, add_eos=True)
        rejected = prompt + encoder.encode_completion(pair.rejected, add_eos=True)
        longest = max(len(chosen), len(rejected))
        if longest > max_length:
            problems.add(f"row {pair.number}", f"{longest} tokens, more than {max_length}")
        elif chosen == rejected:
            problems.add(f"row {pair.number}", "chosen and rejected are the same tokens")
        encoded.append(EncodedPair(chosen, rejected, pair.margin))
    problems.refuse_if_any()
    return encoded
