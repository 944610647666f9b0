"""The three ways to train a reward model, and the questions that two of them ask.

Source: arXiv 2303.16755, where a scalar head and language-model losses on two prompts are compared.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from pathlib import Path

from ilf_common.errors import InvalidArgumentError
from ilf_common.templates import PromptTemplate, load_template

_TEMPLATES = Path(__file__).parent / "templates"


class RewardLoss(StrEnum):
    """How a reward model was trained, and so what it can say."""

    BRADLEY_TERRY = "bradley_terry"
    """A head of one output; -log sigmoid(reward of the preferred text - reward of the other - margin)."""
    YES_NO = "yes_no"
    """A language model answers a yes/no question about one output; the reward is the log-odds of yes."""
    A_B = "a_b"
    """A language model is asked, in both orders, which of two outputs is better; no output has a reward of its own."""

    @property
    def gives_rewards(self) -> bool:
        """Whether a single output has a reward."""
        return self is not RewardLoss.A_B

    @property
    def asks(self) -> bool:
        """Whether a language model answers a question, instead of a head that is read."""
        return self is not RewardLoss.BRADLEY_TERRY


MAX_TOURNAMENT = 16
"""Most samples of a context for a model that only compares: it is asked about every pair of them, in both orders."""

_FIELDS = {
    RewardLoss.YES_NO: frozenset({"context", "candidate"}),
    RewardLoss.A_B: frozenset({"context", "output_a", "output_b"}),
}


@cache
def shipped_question(loss: RewardLoss) -> PromptTemplate:
    """The question of a loss that asks one."""
    return load_template(_TEMPLATES / f"{loss.value}.yaml")


def check_question(loss: RewardLoss, template: PromptTemplate | None, field: str) -> None:
    """Refuses a template that does not fit a loss; None always fits.

    Args:
        loss: What is trained.
        template: The caller's question.
        field: Name of the request's field.

    Raises:
        InvalidArgumentError: A question for a loss that asks none, other placeholders, or no answers.
    """
    if template is None:
        return
    if not loss.asks:
        raise InvalidArgumentError.of(field, "this loss reads context and output as they are; leave the template out")
    if template.fields != _FIELDS[loss]:
        wanted, found = sorted(_FIELDS[loss]), sorted(template.fields)
        raise InvalidArgumentError.of(f"{field}.text", f"must hold the placeholders {wanted}, it holds {found}")
    for side in ("positive_answers", "negative_answers"):
        if len(getattr(template, side)) != 1 or not getattr(template, side)[0].strip():
            raise InvalidArgumentError.of(f"{field}.{side}", "must hold the one answer that is trained and read")
