"""The use cases of ranking: validate, score every candidate, choose the first of the highest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from ilf_common.engine.port import Outcome
from ilf_common.errors import (
    FieldViolation,
    IlfError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    require,
)
from services.ranking.catalog import JudgeCatalog
from services.ranking.checks import check_batch_size, compare_item_violations, id_violations, rank_item_violations
from services.ranking.controls import length_scores, random_scores
from services.ranking.models import (
    CandidateScore,
    CompareItem,
    Comparison,
    ItemOutcome,
    Judge,
    JudgeRequest,
    RankerDescription,
    RankerName,
    RankerRequest,
    Ranking,
    RankItem,
)
from services.ranking.ports import Embedder, JudgeEnsemble, Metrics

ItemT = TypeVar("ItemT", RankItem, CompareItem)
ValueT = TypeVar("ValueT")
Scores = tuple[CandidateScore, ...]

DESCRIPTIONS = {
    RankerName.EMBEDDING: "Cosine similarity between the feedback's embedding and the candidate's.",
    RankerName.INSTRUCT_RM: "Mean over judges of the probability that the candidate incorporates the feedback.",
    RankerName.LENGTH: "Length in characters; a control, since length alone is a strong confound.",
    RankerName.RANDOM: "Uniform numbers that follow from the seed and the item; a control.",
}
_READS_FEEDBACK = {RankerName.EMBEDDING, RankerName.INSTRUCT_RM}


@dataclass(frozen=True)
class Limits:
    """How work is cut and bounded.

    Attributes:
        prompts_per_call: Prompts (or texts to embed) that go to the models in one call; an item is never split.
        calls_in_flight: Calls of one request at work at once.
        queued_items: Items of all requests at work or waiting; beyond it requests are refused with QUEUE_FULL.
        items_per_message: Items of the model-free rankers that are answered together.
    """

    prompts_per_call: int = 512
    calls_in_flight: int = 4
    queued_items: int = 65_536
    items_per_message: int = 256


class RankingService:
    """Ranks items and compares outputs.

    Args:
        ensemble: Asks the judges.
        embedder: The embedding model, or None where the server offers no `embedding` ranker.
        catalog: Judges, judge models and templates.
        metrics: Counts items.
        limits: How work is cut and bounded.
    """

    def __init__(
        self,
        ensemble: JudgeEnsemble,
        embedder: Embedder | None,
        catalog: JudgeCatalog,
        metrics: Metrics,
        limits: Limits | None = None,
    ) -> None:
        self._ensemble = ensemble
        self._embedder = embedder
        self._catalog = catalog
        self._metrics = metrics
        self._limits = limits or Limits()
        self._queued = 0

    def list_rankers(self) -> list[RankerDescription]:
        """The rankers on offer with their judges, in no order."""
        return [RankerDescription(name.value, DESCRIPTIONS[name], self._own_judges(name)) for name in self._offered()]

    async def rank(self, ranker: RankerRequest, item: RankItem, timeout: float | None) -> Ranking:
        """Ranks one item; fields of errors are those of `RankRequest`."""
        name = self._ranker(ranker.name)
        violations = rank_item_violations(item, "", needs_feedback=name in _READS_FEEDBACK)
        if violations:
            raise InvalidArgumentError(violations=violations)
        return await _only(self._rank(name, ranker, [item], timeout))

    async def rank_batch(
        self, ranker: RankerRequest, items: Sequence[RankItem], timeout: float | None
    ) -> AsyncGenerator[list[ItemOutcome[Ranking]], None]:
        """Ranks many items; groups of outcomes are yielded as they finish, each item exactly once.

        Raises:
            InvalidArgumentError: The ranker or the size of the batch is wrong; a wrong item fails alone.
            NotFoundError: RANKER_NOT_FOUND, JUDGE_NOT_FOUND or MODEL_NOT_FOUND.
            ResourceExhaustedError: QUEUE_FULL.
        """
        name = self._ranker(ranker.name)
        check_batch_size(len(items))
        bad: list[ItemOutcome[Ranking]]
        good, bad = _split(
            items, lambda item, path: rank_item_violations(item, path, needs_feedback=name in _READS_FEEDBACK)
        )
        async with aclosing(self._rank(name, ranker, good, timeout)) as outcomes:
            async for group in outcomes:
                yield group
        if bad:
            yield bad

    async def compare(self, judges: Sequence[JudgeRequest], item: CompareItem, timeout: float | None) -> Comparison:
        """Compares one pair; fields of errors are those of `CompareRequest`."""
        violations = compare_item_violations(item, "")
        if violations:
            raise InvalidArgumentError(violations=violations)
        return await _only(self._compare(judges, [item], timeout))

    async def compare_batch(
        self, judges: Sequence[JudgeRequest], items: Sequence[CompareItem], timeout: float | None
    ) -> AsyncGenerator[list[ItemOutcome[Comparison]], None]:
        """As `rank_batch`, for pairs."""
        check_batch_size(len(items))
        bad: list[ItemOutcome[Comparison]]
        good, bad = _split(items, compare_item_violations)
        async with aclosing(self._compare(judges, good, timeout)) as outcomes:
            async for group in outcomes:
                yield group
        if bad:
            yield bad

    async def _rank(
        self, name: RankerName, ranker: RankerRequest, items: Sequence[RankItem], timeout: float | None
    ) -> AsyncGenerator[list[ItemOutcome[Ranking]], None]:
        """Ranks checked items with the ranker's own way to work."""
        if name is RankerName.INSTRUCT_RM:
            judges = self._catalog.for_ranking(ranker.judges, ranker.template_set, "ranker")
            groups = _groups(items, self._limits.prompts_per_call, lambda item: len(judges) * len(item.candidates))
            outcomes = self._run(name.value, groups, lambda group: self._judged(group, judges, timeout))
        elif name is RankerName.EMBEDDING:
            groups = _groups(items, self._limits.prompts_per_call, lambda item: 1 + len(item.candidates))
            outcomes = self._run(name.value, groups, lambda group: self._embedded(group, timeout))
        else:
            groups = _groups(items, self._limits.items_per_message, lambda item: 1)
            outcomes = self._run(name.value, groups, lambda group: _controlled(name, group, ranker.seed))
        async with aclosing(outcomes) as finished:
            async for group in finished:
                yield group

    async def _compare(
        self, requested: Sequence[JudgeRequest], items: Sequence[CompareItem], timeout: float | None
    ) -> AsyncGenerator[list[ItemOutcome[Comparison]], None]:
        judges = self._catalog.for_comparison(requested, "judges")
        groups = _groups(items, self._limits.prompts_per_call, lambda item: 2 * len(judges))

        async def one(group: Sequence[CompareItem]) -> list[ItemOutcome[Comparison]]:
            return _in_order(group, await self._ensemble.compare(group, judges, timeout))

        async with aclosing(self._run("compare", groups, one)) as finished:
            async for outcomes in finished:
                yield outcomes

    async def _run(
        self,
        ranker: str,
        groups: Sequence[Sequence[ItemT]],
        work: Callable[[Sequence[ItemT]], Awaitable[list[ItemOutcome[ValueT]]]],
    ) -> AsyncGenerator[list[ItemOutcome[ValueT]], None]:
        """Works on a few groups at once; leaving the iterator early cancels what still runs."""
        free = asyncio.Semaphore(self._limits.calls_in_flight)

        async def guarded(group: Sequence[ItemT]) -> list[ItemOutcome[ValueT]]:
            async with free:
                try:
                    return await work(group)
                except IlfError as error:
                    return [ItemOutcome(item.item_id, error=error) for item in group]

        with self._admitted(sum(map(len, groups))):
            tasks = [asyncio.ensure_future(guarded(group)) for group in groups]
            try:
                for finished in asyncio.as_completed(tasks):
                    outcomes = await finished
                    errors = sum(outcome.value is None for outcome in outcomes)
                    self._metrics.items_finished(ranker, len(outcomes) - errors, errors)
                    yield outcomes
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    @contextmanager
    def _admitted(self, count: int) -> Iterator[None]:
        if self._queued and self._queued + count > self._limits.queued_items:
            raise ResourceExhaustedError(
                f"{self._queued} items are at work or waiting; at most {self._limits.queued_items} are taken.",
                retry_after=1.0,
            )
        self._queued += count
        self._metrics.queued(self._queued)
        try:
            yield
        finally:
            self._queued -= count
            self._metrics.queued(self._queued)

    async def _judged(
        self, items: Sequence[RankItem], judges: Sequence[Judge], timeout: float | None
    ) -> list[ItemOutcome[Ranking]]:
        outcomes = await self._ensemble.rank(items, judges, timeout)
        ranked = [_map_value(one, RankerName.INSTRUCT_RM) for one in _in_order(items, outcomes)]
        same = [is_same for one in ranked if one.value is not None for is_same in agreement(one.value)]
        self._metrics.judges_chose(sum(same), len(same) - sum(same))
        return ranked

    async def _embedded(self, items: Sequence[RankItem], timeout: float | None) -> list[ItemOutcome[Ranking]]:
        assert self._embedder is not None
        groups = [(item.feedback, item.candidates) for item in items]
        rows = await self._embedder.similarities(groups, timeout)
        return [
            ItemOutcome(item.item_id, value=_ranking(RankerName.EMBEDDING, tuple(map(CandidateScore, row))))
            for item, row in zip(items, rows, strict=True)
        ]

    def _offered(self) -> list[RankerName]:
        return [name for name in RankerName if name is not RankerName.EMBEDDING or self._embedder is not None]

    def _own_judges(self, name: RankerName) -> tuple[Judge, ...]:
        if name is not RankerName.INSTRUCT_RM or not self._catalog.models:
            return ()
        return self._catalog.for_ranking((), "", "ranker")

    def _ranker(self, name: str) -> RankerName:
        known = ", ".join(sorted(offered.value for offered in self._offered()))
        require(bool(name), "ranker.name", f"must not be empty; known are {known}")
        found = next((offered for offered in self._offered() if offered.value == name), None)
        if found is None:
            raise NotFoundError(
                f"This server has no ranker {name!r}; known are {known}.",
                resource_type="ranker",
                resource_name=name,
                reason="RANKER_NOT_FOUND",
            )
        return found


def choose(scores: Sequence[float]) -> int:
    """Index of the highest score; the first of equals."""
    return max(range(len(scores)), key=lambda index: (scores[index], -index))


def agreement(ranking: Ranking) -> list[bool]:
    """Whether each judge puts the candidate first that the ensemble chose; empty where there is nothing to choose."""
    if len(ranking.scores) < 2:
        return []
    by_judge = zip(*(score.judge_scores for score in ranking.scores), strict=True)
    return [choose([score.score for score in scores]) == ranking.chosen_index for scores in by_judge]


async def _controlled(name: RankerName, items: Sequence[RankItem], seed: int) -> list[ItemOutcome[Ranking]]:
    if name is RankerName.LENGTH:
        rows = [length_scores(item) for item in items]
    else:
        rows = [random_scores(item, seed) for item in items]
    return [
        ItemOutcome(item.item_id, value=_ranking(name, tuple(map(CandidateScore, row))))
        for item, row in zip(items, rows, strict=True)
    ]


def _ranking(name: RankerName, scores: Scores) -> Ranking:
    return Ranking(scores, choose([score.score for score in scores]), name.value)


def _map_value(outcome: ItemOutcome[Scores], name: RankerName) -> ItemOutcome[Ranking]:
    if outcome.value is None:
        return ItemOutcome(outcome.item_id, error=outcome.error)
    return ItemOutcome(outcome.item_id, value=_ranking(name, outcome.value))


def _in_order(items: Sequence[ItemT], outcomes: Sequence[Outcome[ValueT]]) -> list[ItemOutcome[ValueT]]:
    return [ItemOutcome(items[one.index].item_id, one.value, one.error) for one in outcomes]


def _split(
    items: Sequence[ItemT], violations_of: Callable[[ItemT, str], list[FieldViolation]]
) -> tuple[list[ItemT], list[ItemOutcome[ValueT]]]:
    """The items that can be worked on, and the outcomes of the others."""
    wrong_ids = id_violations([item.item_id for item in items])
    good: list[ItemT] = []
    bad: list[ItemOutcome[ValueT]] = []
    for index, item in enumerate(items):
        violations = violations_of(item, f"items[{index}].")
        if index in wrong_ids:
            violations.insert(0, wrong_ids[index])
        if violations:
            bad.append(ItemOutcome(item.item_id, error=InvalidArgumentError(violations=violations)))
        else:
            good.append(item)
    return good, bad


def _groups(items: Sequence[ItemT], most: int, weight: Callable[[ItemT], int]) -> list[list[ItemT]]:
    """Cuts items into runs whose weights add up to at most `most`; a heavier item stands alone."""
    groups: list[list[ItemT]] = []
    room = 0
    for item in items:
        if not groups or weight(item) > room:
            groups.append([])
            room = most
        groups[-1].append(item)
        room -= weight(item)
    return groups


async def _only(groups: AsyncGenerator[list[ItemOutcome[ValueT]], None]) -> ValueT:
    """The value of the one item of a unary call, or its error."""
    outcomes = [outcome async for group in groups for outcome in group]
    if outcomes[0].value is None:
        raise outcomes[0].error or InternalError("The item has neither a value nor an error.")
    return outcomes[0].value
