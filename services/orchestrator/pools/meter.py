"""Counts the rows of one run that are with a service, and those it has answered of shards that are not finished."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from typing import Protocol, TypeVar


class _Named(Protocol):
    @property
    def item_id(self) -> str: ...


NamedT = TypeVar("NamedT", bound=_Named)


class Meter:
    """Beside the run's progress, which counts whole shards."""

    def __init__(self) -> None:
        self._with_service: Counter[str] = Counter()
        self._answered: defaultdict[tuple[str, str], set[str]] = defaultdict(set)

    async def counted(
        self, service: str, stage: str, items: Sequence[object], answers: AsyncIterator[list[NamedT]]
    ) -> AsyncGenerator[list[NamedT], None]:
        """The answers to a call with these items, counted as they arrive."""
        open_items = len(items)
        self._with_service[service] += open_items
        try:
            async for outcomes in answers:
                self._answered[service, stage].update(outcome.item_id for outcome in outcomes)
                self._with_service[service] -= len(outcomes)
                open_items -= len(outcomes)
                yield outcomes
        finally:
            self._with_service[service] -= open_items

    def shard_finished(self, stage: str, item_ids: Iterable[str]) -> None:
        """Forgets rows that the run's progress counts from now on."""
        ids = set(item_ids)
        for (_, counted), answered in self._answered.items():
            if counted == stage:
                answered -= ids

    def answered(self, service: str, stage: str) -> int:
        """Rows of unfinished shards that the service has answered in a stage."""
        return len(self._answered.get((service, stage), ()))

    def in_flight(self, service: str) -> int:
        """Items that the service has and has not answered."""
        return self._with_service[service]
