"""Bounds the items in flight, so that a crowd of callers gets a clear answer instead of an endless wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ilf_common.errors import ResourceExhaustedError
from services.refinement.ports import Metrics

_RETRY_AFTER_SECONDS = 1.0


class Ticket:
    """The places that one call takes in the queue; each finished item gives one back."""

    def __init__(self, queue: ItemQueue, model: str, items: int) -> None:
        self._queue = queue
        self._model = model
        self._items = items

    def finish(self, items: int) -> None:
        """Gives the places of finished items back."""
        self._items -= items
        self._queue.change(self._model, -items)

    def close(self) -> None:
        """Gives back what is left."""
        self.finish(self._items)


class ItemQueue:
    """Counts items in flight over all models.

    Args:
        limit: Most items at work or waiting at once. A single call that is larger still gets in when nothing is there.
        metrics: Told of every change.
    """

    def __init__(self, limit: int, metrics: Metrics) -> None:
        self._limit = limit
        self._metrics = metrics
        self._by_model: Counter[str] = Counter()
        self._total = 0

    @contextmanager
    def admit(self, model: str, items: int) -> Iterator[Ticket]:
        """Takes the places of a call, until the block ends.

        Raises:
            ResourceExhaustedError: reason QUEUE_FULL, with the time after which a repeat makes sense.
        """
        if self._total and self._total + items > self._limit:
            raise ResourceExhaustedError(
                f"{self._total:,} items are in flight and {items:,} more would pass the limit of {self._limit:,}; "
                "send the call again a little later.",
                metadata={"limit": str(self._limit)},
                retry_after=_RETRY_AFTER_SECONDS,
            )
        self.change(model, items)
        ticket = Ticket(self, model, items)
        try:
            yield ticket
        finally:
            ticket.close()

    def change(self, model: str, items: int) -> None:
        """Counts items that came (positive) or went (negative)."""
        self._total += items
        self._by_model[model] += items
        self._metrics.running(model, self._by_model[model])
        self._metrics.queue(self._total)
