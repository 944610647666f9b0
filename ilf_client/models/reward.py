"""Reward models, their scores, and the best of N."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ilf_client.models.inference import Sample


@dataclass(frozen=True)
class ScoreItem:
    """An output whose reward is asked for."""

    item_id: str
    context: str
    output: str


@dataclass(frozen=True)
class RewardScore:
    """The reward of one output."""

    reward: float
    token_count: int = 0


@dataclass(frozen=True)
class BestOfN:
    """The output with the highest reward, and all that were sampled, with rewards in the same order."""

    output: str
    chosen_index: int
    samples: Sequence[Sample]
    rewards: Sequence[float]
    model_version: str = ""


@dataclass(frozen=True)
class RewardModel:
    """A served reward model; mean and deviation are those of its training set."""

    name: str
    uri: str = ""
    digest: str = ""
    load_time: datetime | None = None
    max_length: int = 0
    reward_mean: float = 0.0
    reward_std: float = 0.0
