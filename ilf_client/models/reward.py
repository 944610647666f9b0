"""Reward models, their scores and comparisons, what they are worth, and the best of N."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ilf_client.models.inference import Sample
from ilf_client.models.jobs import RewardLoss
from ilf_common.rewards.report import RewardReport


@dataclass(frozen=True)
class ScoreItem:
    """An output whose reward is asked for."""

    item_id: str
    context: str
    output: str


@dataclass(frozen=True)
class RewardScore:
    """The reward of one output.

    Attributes:
        reward: Of several models the mean.
        token_count: Tokens that the (first) model has read.
        probability: Of yes; None unless all models answer a yes/no question.
        spread: Standard deviation over the models.
        model_rewards: In the order of the models.
    """

    reward: float
    token_count: int = 0
    probability: float | None = None
    spread: float = 0.0
    model_rewards: Sequence[float] = ()


@dataclass(frozen=True)
class RewardComparison:
    """Which of two outputs is better; the probability that it is the first, the mean over the models."""

    probability_a: float
    spread: float = 0.0
    model_probabilities: Sequence[float] = ()


@dataclass(frozen=True)
class BestOfN:
    """The best output, and all that were sampled, with what decided between them in the same order."""

    output: str
    chosen_index: int
    samples: Sequence[Sample]
    rewards: Sequence[float]
    model_version: str = ""


@dataclass(frozen=True)
class RewardModel:
    """A served reward model.

    Attributes:
        name: Chosen when it was loaded.
        uri: Where its directory lies in the artifact store.
        digest: sha256 over the directory's manifest.
        load_time: When it began to serve.
        max_length: Longest sequence that it reads.
        reward_mean: Of its rewards over its training comparisons.
        reward_std: Their standard deviation.
        loss: What it was trained with.
        temperature: Reward differences are divided by it to become log-odds.
        held_out: Measured at the end of training; None where nothing was held out.
    """

    name: str
    uri: str = ""
    digest: str = ""
    load_time: datetime | None = None
    max_length: int = 0
    reward_mean: float = 0.0
    reward_std: float = 0.0
    loss: RewardLoss = RewardLoss.UNSPECIFIED
    temperature: float = 1.0
    held_out: RewardReport | None = None
