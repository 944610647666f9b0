"""What reward models are asked, and how the answers of several become one."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev

from ilf_common.rewards.inputs import RewardInputs
from ilf_common.rewards.kinds import RewardLoss
from ilf_common.statistics.calibration import sigmoid
from services.reward import validation
from services.reward.asking import Numbers, Question, Sequences
from services.reward.models import CompareItem, Preference, Reward, ScoreItem
from services.reward.shelf import Served


def reward_question(models: Sequence[Served], *, normalize: bool) -> Question[ScoreItem, Reward]:
    """The reward of one output, the mean over the models."""

    def combine(read: Sequence[Sequences], said: Sequence[Numbers]) -> Reward:
        rewards = [number for (number,) in said]
        values = [
            served.version.normalized(reward) if normalize else reward
            for served, reward in zip(models, rewards, strict=True)
        ]
        all_answer_yes = all(served.model.card.loss is RewardLoss.YES_NO for served in models)
        return Reward(
            value=fmean(values),
            token_count=len(read[0][0]),
            probability=fmean(sigmoid(rewards)) if all_answer_yes else None,
            spread=pstdev(values),
            by_model=tuple(values),
        )

    return Question(validation.item_violations, _single, combine)


def preference_question(models: Sequence[Served]) -> Question[CompareItem, Preference]:
    """Which of two outputs is better, the mean probability over the models."""

    def combine(read: Sequence[Sequences], said: Sequence[Numbers]) -> Preference:
        scaled = [
            served.model.inputs.advantage(*numbers) / served.model.card.temperature
            for served, numbers in zip(models, said, strict=True)
        ]
        probabilities = sigmoid(scaled).tolist()
        return Preference(fmean(probabilities), pstdev(probabilities), tuple(probabilities))

    return Question(validation.pair_violations, _pair, combine)


def advantage_question(models: Sequence[Served]) -> Question[CompareItem, tuple[float, ...]]:
    """By how much the first of two outputs is ahead, for each model."""

    def combine(read: Sequence[Sequences], said: Sequence[Numbers]) -> tuple[float, ...]:
        return tuple(served.model.inputs.advantage(*numbers) for served, numbers in zip(models, said, strict=True))

    return Question(validation.pair_violations, _pair, combine)


def _single(inputs: RewardInputs, item: ScoreItem) -> Sequences:
    return (inputs.single(item.context, item.output),)


def _pair(inputs: RewardInputs, item: CompareItem) -> Sequences:
    return inputs.pair(item.context, item.output_a, item.output_b)
