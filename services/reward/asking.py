"""Puts items to one or several reward models; a bad item fails alone, and outcomes come as they finish."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ilf_common.errors import FieldViolation, InternalError, InvalidArgumentError
from ilf_common.rewards.inputs import RewardInputs
from services.reward.models import ItemOutcome
from services.reward.shelf import Served

Sequences = tuple[list[int], ...]
"""What one model reads for one item."""
Numbers = tuple[float, ...]
"""What one model says of each of an item's sequences."""


class Item(Protocol):
    """Anything that can be asked about."""

    @property
    def item_id(self) -> str:
        """Tells outcomes apart."""
        ...


ItemT = TypeVar("ItemT", bound=Item)
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Question(Generic[ItemT, ResultT]):
    """How items are put to models.

    Attributes:
        violations: What is wrong with an item, the given prefix in front of the fields.
        encode: What a model reads for an item.
        combine: The result of an item from what each model read and said.
    """

    violations: Callable[[ItemT, str], list[FieldViolation]]
    encode: Callable[[RewardInputs, ItemT], Sequences]
    combine: Callable[[Sequence[Sequences], Sequence[Numbers]], ResultT]


async def ask_one(models: Sequence[Served], item: ItemT, question: Question[ItemT, ResultT]) -> ResultT:
    """The result of one item, whose fields stand in the request itself.

    Raises:
        IlfError: What would have been the item's error, and as `ask`.
    """
    async with aclosing(ask(models, [item], question, prefix=lambda _: "")) as groups:
        async for (outcome,) in groups:
            if outcome.error is not None:
                raise outcome.error
            if outcome.result is not None:
                return outcome.result
    raise InternalError("An item has neither a result nor an error.")


async def ask(
    models: Sequence[Served],
    items: Sequence[ItemT],
    question: Question[ItemT, ResultT],
    *,
    prefix: Callable[[int], str] = lambda place: f"items[{place}].",
) -> AsyncGenerator[list[ItemOutcome[ResultT]]]:
    """Outcomes as they finish, each item exactly once. Closing the iterator gives the rest up.

    Args:
        models: Each is asked about every item, one model after the other: they share one thread.
        items: What is asked about.
        question: How.
        prefix: What stands in front of an item's fields in errors.

    Raises:
        ResourceExhaustedError: reason QUEUE_FULL.
        UnavailableError: reason MODEL_UNLOADED.
    """
    read, refused = await _encode(models, items, question, prefix)
    if refused:
        yield refused
    said: dict[int, list[Numbers]] = {place: [] for place in read}
    for index, served in enumerate(models):
        sequences = {place: by_model[index] for place, by_model in read.items()}
        async with aclosing(_numbers(served, sequences)) as groups:
            async for group in groups:
                for place, numbers in group.items():
                    said[place].append(numbers)
                if served is models[-1]:
                    yield [_outcome(items[place].item_id, question, read[place], said[place]) for place in group]


async def _encode(
    models: Sequence[Served],
    items: Sequence[ItemT],
    question: Question[ItemT, ResultT],
    prefix: Callable[[int], str],
) -> tuple[dict[int, list[Sequences]], list[ItemOutcome[ResultT]]]:
    """What each model reads for the good items, by place; and the outcomes of the others."""
    refused: list[ItemOutcome[ResultT]] = []
    good: dict[int, list[Sequences]] = {}
    for place, item in enumerate(items):
        violations = question.violations(item, prefix(place))
        if violations:
            refused.append(ItemOutcome(item.item_id, error=InvalidArgumentError(violations=violations)))
        else:
            good[place] = []
    for served in models:
        wanted = {place: items[place] for place in good}
        # In a thread of its own, so that other calls go on.
        encoded = await asyncio.to_thread(_encode_for, served, wanted, question)
        for place, sequences in encoded.items():
            longest = max(map(len, sequences))
            if longest > served.version.max_length:
                del good[place]
                refused.append(ItemOutcome(items[place].item_id, error=_too_long(longest, served, prefix(place))))
            else:
                good[place].append(sequences)
    return good, refused


def _encode_for(served: Served, items: Mapping[int, ItemT], question: Question[ItemT, ResultT]) -> dict[int, Sequences]:
    return {place: question.encode(served.model.inputs, item) for place, item in items.items()}


async def _numbers(served: Served, wanted: Mapping[int, Sequences]) -> AsyncGenerator[dict[int, Numbers]]:
    """What a model says of each item, as soon as it has read all of the item's sequences."""
    flat = [(place, part, ids) for place, sequences in wanted.items() for part, ids in enumerate(sequences)]
    partial: dict[int, dict[int, float]] = {place: {} for place in wanted}
    async with aclosing(served.queue.score([ids for _, _, ids in flat])) as arrivals:
        async for scores in arrivals:
            whole: dict[int, Numbers] = {}
            for index, number in scores:
                place, part, _ = flat[index]
                partial[place][part] = number
                if len(partial[place]) == len(wanted[place]):
                    whole[place] = tuple(partial[place][part] for part in range(len(wanted[place])))
            if whole:
                yield whole


def _outcome(
    item_id: str, question: Question[ItemT, ResultT], read: Sequence[Sequences], said: Sequence[Numbers]
) -> ItemOutcome[ResultT]:
    if not all(math.isfinite(number) for numbers in said for number in numbers):
        error = InternalError("A reward model answered a number that is not finite.", reason="REWARD_NOT_FINITE")
        return ItemOutcome(item_id, error=error)
    return ItemOutcome(item_id, question.combine(read, said))


def _too_long(length: int, served: Served, prefix: str) -> InvalidArgumentError:
    limit = served.version.max_length
    return InvalidArgumentError(
        violations=[
            FieldViolation(f"{prefix}context", f"has {length:,} tokens with its output; this model takes {limit:,}")
        ],
        reason="PROMPT_TOO_LONG",
        metadata={"tokens": str(length), "limit": str(limit)},
    )
