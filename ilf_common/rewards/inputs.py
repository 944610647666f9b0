"""How texts become the token ids that a reward model reads: the same for training, measuring and serving."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Protocol

from ilf_common.errors import InvalidArgumentError
from ilf_common.rewards.kinds import RewardLoss, shipped_question
from ilf_common.templates import PromptTemplate


class Encoder(Protocol):
    """`ilf_common.engine.prompt_encoder.PromptEncoder`, as far as it is used here."""

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a whole prompt, with its special tokens."""
        ...

    def encode_completion(self, text: str, add_eos: bool) -> list[int]:
        """Ids of a continuation, without special tokens but the last."""
        ...


class RewardInputs:
    """Encodes outputs and pairs of outputs for one loss.

    A head reads context, output and end-of-sequence token, and its number stands at the last of them. A language
    model reads its question up to the place where the two answers part; its number is the difference of the
    log-probabilities of the two tokens that come there.

    Args:
        loss: What the model was, or is to be, trained with.
        encoder: The model's.
        question: Of the losses that ask one; None takes the shipped one.

    Attributes:
        answers: Token ids of the positive and the negative answer; None where nothing is asked.

    Raises:
        InvalidArgumentError: The tokenizer cannot tell the two answers apart.
    """

    def __init__(self, loss: RewardLoss, encoder: Encoder, question: PromptTemplate | None = None) -> None:
        self.loss = loss
        self._encoder = encoder
        self._shared: list[int] = []
        self.answers: tuple[int, int] | None = None
        if loss.asks:
            self.question = question or shipped_question(loss)
            self._shared, self.answers = _answers(self.question, encoder)

    def single(self, context: str, output: str) -> list[int]:
        """What is read for the reward of one output; not for A_B."""
        if self.loss is RewardLoss.YES_NO:
            return self._ask(context=context, candidate=output)
        return self._encoder.encode_prompt(context) + self._encoder.encode_completion(output, add_eos=True)

    def pair(self, context: str, first: str, second: str) -> tuple[list[int], list[int]]:
        """What is read to compare two outputs: each of them; for A_B the question in both orders, `first` first."""
        if self.loss is RewardLoss.A_B:
            return (
                self._ask(context=context, output_a=first, output_b=second),
                self._ask(context=context, output_a=second, output_b=first),
            )
        return self.single(context, first), self.single(context, second)

    def advantage(self, first: float, second: float) -> float:
        """By how much the first output of a pair is ahead, from the two numbers that the model gave for `pair`.

        The difference of two rewards; for A_B the mean over the two orders of the log-odds that it is the better one.
        """
        return (first - second) / 2 if self.loss is RewardLoss.A_B else first - second

    def _ask(self, **texts: str) -> list[int]:
        return self._encoder.encode_prompt(self.question.render(**texts)) + self._shared


def _answers(question: PromptTemplate, encoder: Encoder) -> tuple[list[int], tuple[int, int]]:
    """The tokens that both answers begin with, and the first in which they differ."""
    positive, negative = (
        encoder.encode_completion(question.target_prefix + answers[0], add_eos=False)
        for answers in (question.positive_answers, question.negative_answers)
    )
    shared = _common_prefix(positive, negative)
    place = len(shared)
    if place in (len(positive), len(negative)):
        raise InvalidArgumentError.of(
            "template.negative_answers", "this model's tokenizer cannot tell the negative answer from the positive one"
        )
    return shared, (positive[place], negative[place])


def _common_prefix(first: Sequence[int], second: Sequence[int]) -> list[int]:
    return [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))]
