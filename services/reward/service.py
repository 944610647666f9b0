"""The use cases of the reward service, but for the life of its models."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean

from ilf_common.engine.port import Sample
from ilf_common.errors import FailedPreconditionError, InvalidArgumentError
from ilf_common.rewards.kinds import MAX_TOURNAMENT
from ilf_common.rewards.report import RewardReport
from services.reward import validation
from services.reward.asking import ItemT, Question, ask, ask_one
from services.reward.evaluation import evaluate
from services.reward.models import (
    BestOfN,
    BestOfNCall,
    CompareCall,
    CompareItem,
    EvaluateCall,
    ItemOutcome,
    Preference,
    ResultT,
    Reward,
    ScoreCall,
    ScoreItem,
    TrainCall,
)
from services.reward.ports import ComparisonSource, OutputSampler, RewardTrainer
from services.reward.questions import preference_question, reward_question
from services.reward.shelf import ModelShelf, Served


@dataclass(frozen=True)
class Surroundings:
    """Everything outside that the use cases need."""

    comparisons: ComparisonSource
    sampler: OutputSampler
    trainer: RewardTrainer


class RewardService:
    """Asks reward models.

    Args:
        models: The loaded ones.
        surroundings: What is outside.
    """

    def __init__(self, models: ModelShelf, surroundings: Surroundings) -> None:
        self.models = models
        self._outside = surroundings

    async def score(self, models: Sequence[str], item: ScoreItem, *, normalize: bool) -> Reward:
        """The reward of one output.

        Raises:
            InvalidArgumentError: A wrong field, or PROMPT_TOO_LONG.
            NotFoundError: reason REWARD_MODEL_NOT_FOUND.
            FailedPreconditionError: REWARD_STATISTICS_MISSING (`normalize` has nothing to go by), NO_SCALAR_REWARD.
            ResourceExhaustedError: reason QUEUE_FULL.
        """
        validation.check_single(models, validation.item_violations(item, ""))
        served = self._scoring(models, normalize=normalize)
        return await ask_one(served, item, reward_question(served, normalize=normalize))

    async def score_batch(self, call: ScoreCall) -> AsyncGenerator[list[ItemOutcome[Reward]]]:
        """Outcomes as they finish, those that finish together at once; a bad item fails alone.

        Raises:
            InvalidArgumentError: What the items share is wrong; else as `score`.
        """
        validation.check_batch(call.models, [item.item_id for item in call.items])
        served = self._scoring(call.models, normalize=call.normalize)
        async with aclosing(ask(served, call.items, reward_question(served, normalize=call.normalize))) as groups:
            async for outcomes in groups:
                yield outcomes

    async def compare(self, models: Sequence[str], item: CompareItem) -> Preference:
        """Which of two outputs is better; errors as in `score`."""
        validation.check_single(models, validation.pair_violations(item, ""))
        served = self.models.find(models)
        return await ask_one(served, item, preference_question(served))

    async def compare_batch(self, call: CompareCall) -> AsyncGenerator[list[ItemOutcome[Preference]]]:
        """Compares many pairs, as `score_batch` scores many outputs."""
        validation.check_batch(call.models, [item.item_id for item in call.items])
        served = self.models.find(call.models)
        async with aclosing(ask(served, call.items, preference_question(served))) as groups:
            async for outcomes in groups:
                yield outcomes

    async def best_of_n(self, call: BestOfNCall) -> BestOfN:
        """Draws N outputs and keeps the best, the first of equals.

        The best has the highest reward, of several models the highest mean of normalized rewards; where a model gives
        no rewards, the highest mean probability to beat each of the others.

        Raises:
            IlfError: As `score`, and what the refinement service raises.
        """
        validation.check_best_of_n(call)
        served = self.models.find(call.reward_models)
        compares = not all(one.model.card.loss.gives_rewards for one in served)
        if compares and call.sampling.n > MAX_TOURNAMENT:
            raise InvalidArgumentError.of(
                "sampling.n",
                f"is {call.sampling.n}; a model that only compares chooses among at most {MAX_TOURNAMENT} samples",
            )
        if len(served) > 1 and not compares:
            _require_statistics(served)
        drawn = await self._outside.sampler.sample(call)
        choose = self._win_rates if compares else self._rewards
        rewards = await choose(served, call.context, drawn.samples)
        best = max(range(len(rewards)), key=rewards.__getitem__)
        return BestOfN(drawn.samples, tuple(rewards), best, drawn.model_version)

    async def evaluate(self, call: EvaluateCall) -> RewardReport:
        """Measures models on a dataset of comparisons.

        Raises:
            IlfError: As `score`, DATASET_NOT_FOUND, and DATASET_INVALID.
        """
        validation.check_evaluate(call)
        served = self.models.find(call.models)
        found = await asyncio.to_thread(self._outside.comparisons.read, call.dataset_uri, call.slice_column)
        return await evaluate(served, found)

    async def train(self, call: TrainCall) -> str:
        """Starts a job at the finetune service and answers its name; a repeat answers the first job.

        Raises:
            IlfError: A wrong field, and what the finetune service raises.
        """
        validation.check_train(call)
        return await self._outside.trainer.create_job(replace(call, request_id=call.request_id or str(uuid.uuid4())))

    def _scoring(self, names: Sequence[str], *, normalize: bool) -> list[Served]:
        """The models, if they can score together."""
        served = self.models.find(names)
        for one in served:
            if not one.model.card.loss.gives_rewards:
                raise FailedPreconditionError(
                    f"Reward model {one.version.name!r} answers which of two outputs is better; it gives no output a "
                    "reward. Use Compare.",
                    reason="NO_SCALAR_REWARD",
                    metadata={"resource": one.version.name},
                )
        if len(served) > 1 and not normalize:
            raise InvalidArgumentError.of(
                "normalize", "must be set: the rewards of several models have no common scale"
            )
        if normalize:
            _require_statistics(served)
        return served

    async def _rewards(self, served: Sequence[Served], context: str, samples: Sequence[Sample]) -> list[float]:
        items = [ScoreItem(str(place), context, sample.text) for place, sample in enumerate(samples)]
        question = reward_question(served, normalize=len(served) > 1)
        return [reward.value for reward in await _all(served, items, question)]

    async def _win_rates(self, served: Sequence[Served], context: str, samples: Sequence[Sample]) -> list[float]:
        """Mean probability of each sample to beat each of the others; 0.5 for one that has none."""
        pairs = list(combinations(range(len(samples)), 2))
        items = [
            CompareItem(str(place), context, samples[a].text, samples[b].text) for place, (a, b) in enumerate(pairs)
        ]
        wins: list[list[float]] = [[] for _ in samples]
        for (a, b), found in zip(pairs, await _all(served, items, preference_question(served)), strict=True):
            wins[a].append(found.probability_a)
            wins[b].append(1 - found.probability_a)
        return [fmean(of_one) if of_one else 0.5 for of_one in wins]


async def _all(served: Sequence[Served], items: Sequence[ItemT], question: Question[ItemT, ResultT]) -> list[ResultT]:
    """Results in the order of the items, whose ids are their places; the first error ends it."""
    results: dict[int, ResultT] = {}
    async with aclosing(ask(served, items, question, prefix=lambda _: "")) as groups:
        async for outcomes in groups:
            for outcome in outcomes:
                if outcome.error is not None:
                    raise outcome.error
                assert outcome.result is not None
                results[int(outcome.item_id)] = outcome.result
    return [results[place] for place in range(len(items))]


def _require_statistics(served: Sequence[Served]) -> None:
    for one in served:
        one.version.normalized(0.0)
