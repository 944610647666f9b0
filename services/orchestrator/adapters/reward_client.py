"""The reward service, over gRPC: it ranks by the rewards of outputs, or by how they compare with one another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing
from itertools import combinations
from statistics import fmean, pstdev
from typing import Any

import grpc
from ilf.common.v1 import common_pb2
from ilf.reward.v1 import reward_service_pb2 as pb
from ilf.reward.v1.reward_service_pb2_grpc import RewardServiceStub

from ilf_common.errors import FailedPreconditionError, IlfError
from ilf_common.rewards.kinds import MAX_TOURNAMENT
from ilf_common.rpc.client import call, stream
from ilf_common.rpc.status import from_status
from services.orchestrator.calls import Item, Outcome
from services.orchestrator.codec import digest_of
from services.orchestrator.rows import Score

_UNARY_SECONDS = 20.0
_BATCH_SECONDS = 6 * 3600.0
_MAX_QUESTIONS = 4096
_MAX_CHARACTERS = 8_000_000
"""Texts of one call; with 4 bytes a character it stays below the service's message limit."""

_Place = tuple[int, ...]
"""An item, and the one candidate that is scored or the two that are compared."""


class RewardClient:
    """Implements `ports.Reward`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: Any = RewardServiceStub(channel)

    async def models_digest(self, models: Sequence[str]) -> str:
        """Digest of the checkpoints that the models serve."""
        return digest_of([model.digest for model in await self._models(models)])

    async def rank(
        self, models: Sequence[str], items: Sequence[Item]
    ) -> AsyncIterator[list[Outcome[tuple[Score, ...]]]]:
        """Scores the items' candidates; where a model gives no rewards, by the mean probability to beat the others."""
        losses = [model.loss for model in await self._models(models)]
        compares = common_pb2.REWARD_LOSS_A_B in losses
        boards = [_Board(item, models, compares=compares) for item in items]
        ready = [board.outcome() for board in boards if not board.open]
        if ready:
            yield ready
        places = [(index, *shown) for index, board in enumerate(boards) for shown in board.open]
        for part in _parts(places, items):
            async for answered in self._ask(models, items, part, compares=compares):
                done = []
                for place, answer in answered:
                    board = boards[place[0]]
                    board.note(place[1:], answer)
                    if not board.open:
                        done.append(board.outcome())
                if done:
                    yield done

    async def _models(self, names: Sequence[str]) -> list[pb.RewardModel]:
        return [
            await call(self._stub.GetRewardModel, pb.GetRewardModelRequest(name=name), timeout=_UNARY_SECONDS)
            for name in names
        ]

    async def _ask(
        self, models: Sequence[str], items: Sequence[Item], places: Sequence[_Place], *, compares: bool
    ) -> AsyncIterator[list[tuple[_Place, Sequence[float] | IlfError]]]:
        """What each model says of one or two candidates, as the answers arrive."""
        request: Any = (
            pb.BatchCompareRequest(models=models)
            if compares
            else pb.BatchScoreRequest(models=models, normalize=len(models) > 1)
        )
        for number, (index, *shown) in enumerate(places):
            texts = [items[index].candidates[one] for one in shown]
            named = dict(zip(("output_a", "output_b") if compares else ("output",), texts, strict=True))
            request.items.add(item_id=str(number), context=items[index].context, **named)
        method = self._stub.BatchCompare if compares else self._stub.BatchScore
        async with aclosing(stream(method, request, timeout=_BATCH_SECONDS)) as responses:
            async for response in responses:
                yield [(places[int(outcome.item_id)], _answer(outcome)) for outcome in response.outcomes]


class NoRewards:
    """Implements `ports.Reward` where there is no reward service."""

    async def models_digest(self, models: Sequence[str]) -> str:
        """Refuses every model."""
        raise self._refusal(models)

    def rank(self, models: Sequence[str], items: Sequence[Item]) -> AsyncIterator[list[Outcome[tuple[Score, ...]]]]:
        """Refuses every item."""
        raise self._refusal(models)

    def _refusal(self, models: Sequence[str]) -> FailedPreconditionError:
        return FailedPreconditionError(
            f"The run names the reward models {', '.join(models)}, and there is no reward service here. Enable it, or "
            "leave reward models out.",
            reason="NO_REWARD_SERVICE",
        )


class _Board:
    """What is known of one item's candidates.

    Attributes:
        open: What has not been answered yet.
    """

    def __init__(self, item: Item, models: Sequence[str], *, compares: bool) -> None:
        self._item = item
        self._models = models
        self._error: IlfError | None = None
        count = len(item.candidates)
        if compares and count > MAX_TOURNAMENT:
            self._error = FailedPreconditionError(
                f"{count} candidates; a reward model that only compares ranks at most {MAX_TOURNAMENT}.",
                reason="TOO_MANY_CANDIDATES",
            )
            count = 0
        self.open = set(combinations(range(count), 2 if compares else 1))
        # For each candidate what each answer said of it, one number a model.
        self._said: list[list[Sequence[float]]] = [[] for _ in item.candidates]

    def note(self, shown: _Place, answer: Sequence[float] | IlfError) -> None:
        """Takes an answer; of two candidates the second gets the rest of the probability."""
        self.open.discard(shown)
        if isinstance(answer, IlfError):
            self._error = answer
            return
        self._said[shown[0]].append(answer)
        for other in shown[1:]:
            self._said[other].append([1 - number for number in answer])

    def outcome(self) -> Outcome[tuple[Score, ...]]:
        """The item's scores, or the error of one of them."""
        if self._error is not None:
            return Outcome(self._item.item_id, error=self._error)
        return Outcome(self._item.item_id, tuple(self._score(answers) for answers in self._said))

    def _score(self, answers: Sequence[Sequence[float]]) -> Score:
        # A single candidate is compared with none.
        by_model = [fmean(numbers) for numbers in zip(*answers, strict=True)] or [0.5] * len(self._models)
        judges = tuple((name, number, 0.0) for name, number in zip(self._models, by_model, strict=True))
        return Score(fmean(by_model), pstdev(by_model), 0.0, judges)


def _parts(places: Iterable[_Place], items: Sequence[Item]) -> Iterator[list[_Place]]:
    """Questions in the calls that carry them."""
    part: list[_Place] = []
    size = 0
    for place in places:
        item = items[place[0]]
        length = len(item.context) + sum(len(item.candidates[shown]) for shown in place[1:])
        if part and (len(part) == _MAX_QUESTIONS or size + length > _MAX_CHARACTERS):
            yield part
            part, size = [], 0
        part.append(place)
        size += length
    if part:
        yield part


def _answer(outcome: Any) -> Sequence[float] | IlfError:
    if outcome.WhichOneof("outcome") == "error":
        return from_status(outcome.error)
    result = outcome.result
    numbers: Sequence[float] = (
        result.model_rewards if isinstance(result, pb.ScoreResponse) else result.model_probabilities
    )
    return numbers
