"""What samples are chosen by: reward models, tournaments of models that only compare, and rankers such as judges."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Protocol

from ilf_client.evaluation.parts import Record, answers
from ilf_client.models.inference import CompareItem, RankerSpec, RankItem, RankResult
from ilf_client.models.jobs import RewardLoss
from ilf_client.models.reward import ScoreItem
from ilf_common.errors import FailedPreconditionError, IlfError, InvalidArgumentError
from ilf_common.rewards.kinds import MAX_TOURNAMENT

if TYPE_CHECKING:
    from ilf_client.aio.services import AsyncServices


@dataclass(frozen=True)
class Candidates:
    """The samples of one context, and what is known of it."""

    item_id: str
    context: str
    initial_output: str
    feedback: str
    texts: tuple[str, ...]


class Scorer(Protocol):
    """Gives every sample a number, `{"scores": [...]}` in the order of the texts."""

    @property
    def name(self) -> str:
        """In results."""

    @property
    def key(self) -> dict[str, Any]:
        """All that determines its scores."""

    def ask(self, items: Sequence[Candidates]) -> AsyncIterator[tuple[str, Record]]:
        """Scores samples.

        Raises:
            FailedPreconditionError: reason REWARD_NOT_FINITE; names the item.
        """


async def scorers_of(
    client: AsyncServices, reward_models: Sequence[str], ranker: RankerSpec | None, samples: int
) -> list[Scorer]:
    """A scorer for each reward model, and one for the ranker.

    Args:
        client: Where they are served.
        reward_models: Served reward models.
        ranker: A ranker, if wanted.
        samples: How many texts of a context will be scored.

    Raises:
        InvalidArgumentError: Nothing is given, or a model that only compares gets too many samples.
        NotFoundError: reason REWARD_MODEL_NOT_FOUND.
    """
    models = [await client.reward.get(name) for name in reward_models]
    comparing = [model.name for model in models if model.loss is RewardLoss.A_B]
    if comparing and samples > MAX_TOURNAMENT:
        raise InvalidArgumentError.of(
            "n",
            f"is {samples}; {', '.join(comparing)} can only compare, every pair of samples is asked about, and so "
            f"at most {MAX_TOURNAMENT} samples a context are allowed",
        )
    found: list[Scorer] = [
        (Tournament if model.name in comparing else Rewards)(client, model.name, model.digest) for model in models
    ]
    if ranker is not None:
        found.append(RankerScores(client, ranker))
    if not found:
        raise InvalidArgumentError.of("reward_models", "nothing scores the samples: name reward models, or a ranker")
    return found


class Rewards:
    """The rewards of one reward model."""

    def __init__(self, client: AsyncServices, model: str, digest: str) -> None:
        self._client = client
        self.name = model
        self.key = {"reward_model": model, "digest": digest}

    async def ask(self, items: Sequence[Candidates]) -> AsyncIterator[tuple[str, Record]]:
        """As `Scorer.ask`; equal texts of a context are scored once."""
        distinct = {item.item_id: list(dict.fromkeys(item.texts)) for item in items}
        asked = [
            ScoreItem(f"{number}/{k}", item.context, text)
            for number, item in enumerate(items)
            for k, text in enumerate(distinct[item.item_id])
        ]
        pending = _Pending(items, {item_id: len(texts) for item_id, texts in distinct.items()})
        async for outcome in self._client.reward.batch_score(self.name, asked):
            value = None if outcome.result is None else outcome.result.reward
            done = pending.take(outcome.item_id, value, outcome.error)
            if done is None:
                continue
            item, scores, error = done
            if error is not None:
                yield item.item_id, {"error": error.reason, "message": error.message}
            else:
                by_text = {text: scores[k] for k, text in enumerate(distinct[item.item_id])}
                yield item.item_id, {"scores": [by_text[text] for text in item.texts]}
        pending.raise_passing()


class Tournament:
    """The mean probability of a sample to beat each of the others, by a reward model that only compares."""

    def __init__(self, client: AsyncServices, model: str, digest: str) -> None:
        self._client = client
        self.name = model
        self.key = {"tournament": model, "digest": digest}

    async def ask(self, items: Sequence[Candidates]) -> AsyncIterator[tuple[str, Record]]:
        """As `Scorer.ask`; a sample without others scores 0.5, and equal texts tie."""
        pairs = {item.item_id: list(combinations(dict.fromkeys(item.texts), 2)) for item in items}
        for item in items:
            if not pairs[item.item_id]:
                yield item.item_id, {"scores": [0.5] * len(item.texts)}
        asked = [
            CompareItem(f"{number}/{k}", item.context, first, second)
            for number, item in enumerate(items)
            for k, (first, second) in enumerate(pairs[item.item_id])
        ]
        if not asked:
            return
        pending = _Pending(items, {item_id: len(found) for item_id, found in pairs.items()})
        async for outcome in self._client.reward.batch_compare(self.name, asked):
            value = None if outcome.result is None else outcome.result.probability_a
            done = pending.take(outcome.item_id, value, outcome.error)
            if done is None:
                continue
            item, shares, error = done
            if error is not None:
                yield item.item_id, {"error": error.reason, "message": error.message}
            else:
                won = {pair: shares[k] for k, pair in enumerate(pairs[item.item_id])}
                yield item.item_id, {"scores": _mean_wins(item.texts, won)}
        pending.raise_passing()


class RankerScores:
    """The scores of a ranker, such as an ensemble of judges."""

    def __init__(self, client: AsyncServices, ranker: RankerSpec) -> None:
        self._client = client
        self._ranker = ranker
        self.name = ranker.name
        self.key = {"ranker": ranker}

    async def ask(self, items: Sequence[Candidates]) -> AsyncIterator[tuple[str, Record]]:
        """As `Scorer.ask`; the record has the `judges` of each text too."""
        asked = [RankItem(item.item_id, item.context, item.initial_output, item.feedback, item.texts) for item in items]
        async for item_id, record in answers(self._client.batch_rank(asked, ranker=self._ranker), _ranked):
            for index, score in enumerate(record.get("scores", ())):
                _require_finite(item_id, index, score)
            yield item_id, record


def _ranked(result: RankResult) -> Record:
    return {
        "scores": [score.score for score in result.scores],
        "judges": [{judge.judge: judge.score for judge in score.judge_scores} for score in result.scores],
    }


class _Pending:
    """Puts the answers to an item's questions together; their ids are `<number of the item>/<number of the question>`.

    An item ends with its last answer, or with the first error that stays.
    """

    def __init__(self, items: Sequence[Candidates], counts: dict[str, int]) -> None:
        self._items = items
        self._counts = counts
        self._scores: dict[int, dict[int, float]] = defaultdict(dict)
        self._over: set[int] = set()
        self._passing: IlfError | None = None

    def take(
        self, question: str, value: float | None, error: IlfError | None
    ) -> tuple[Candidates, dict[int, float], IlfError | None] | None:
        """The item with its answers or its error, where this answer ends it."""
        number, k = map(int, question.split("/"))
        item = self._items[number]
        if number in self._over:
            return None
        if error is not None or value is None:
            return self._failed(number, k, error)
        _require_finite(item.item_id, k, value)
        self._scores[number][k] = value
        if len(self._scores[number]) < self._counts[item.item_id]:
            return None
        self._over.add(number)
        return item, self._scores.pop(number), None

    def _failed(
        self, number: int, k: int, error: IlfError | None
    ) -> tuple[Candidates, dict[int, float], IlfError | None] | None:
        item = self._items[number]
        if error is not None and error.reason == "REWARD_NOT_FINITE":
            raise _not_finite(item.item_id, k, "no finite reward") from error
        self._over.add(number)
        if isinstance(error, InvalidArgumentError | FailedPreconditionError):
            return item, {}, error
        self._passing = error
        return None

    def raise_passing(self) -> None:
        """Raises an error that another attempt may mend."""
        if self._passing is not None:
            raise self._passing


def _mean_wins(texts: Sequence[str], won: dict[tuple[str, str], float]) -> list[float]:
    def share(first: int, second: int) -> float:
        a, b = texts[first], texts[second]
        return 0.5 if a == b else won[a, b] if (a, b) in won else 1 - won[b, a]

    others = len(texts) - 1
    return [sum(share(i, j) for j in range(len(texts)) if j != i) / others for i in range(len(texts))]


def _require_finite(item_id: str, index: int, score: float) -> None:
    if not math.isfinite(score):
        raise _not_finite(item_id, index, f"the reward {score}")


def _not_finite(item_id: str, index: int, what: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"Sample {index} of item {item_id!r} has {what}; the scorer is broken, and a choice by it would mean nothing.",
        reason="REWARD_NOT_FINITE",
        metadata={"item_id": item_id},
    )
