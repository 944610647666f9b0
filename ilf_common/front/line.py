"""Who is worked on next and by whom: a bounded line of items in front of the workers.

Every call has at most one place in the line at a time and goes to its end for its next piece; so a call with one item
passes a call with thousands. The worker with the fewest items gets the next piece.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from ilf_common.errors import ResourceExhaustedError, UnavailableError

_RETRY_AFTER_SECONDS = 1.0


@dataclass(frozen=True)
class PoolNumbers:
    """How busy a pool is; see `ilf.pool.v1.WatchPoolResponse`.

    Attributes:
        queued_item_seconds: Seconds that items have waited, summed over items.
    """

    queued_items: int
    running_items: int
    ready_workers: int
    finished_items: int
    busy_worker_seconds: float
    queued_item_seconds: float


class Call:
    """The items of one call: those that wait count as queued until a worker has them or the call ends."""

    def __init__(self, line: Line, items: int) -> None:
        self.items = items
        self.queued = items
        # One place in the line at a time: this is what makes the line fair.
        self.place = asyncio.Lock()
        self._line = line

    def close(self) -> None:
        """Nothing of this call waits any more."""
        self._line.change(queued=-self.queued)
        self.queued = 0


class Grant:
    """Items that a worker has got; those that are neither finished nor given back when it closes wait again."""

    def __init__(self, line: Line, call: Call, worker: str, items: int) -> None:
        self.worker = worker
        self._line = line
        self._call = call
        self.items = items

    def finish(self, items: int) -> None:
        """The worker has answered this many."""
        self.items -= items
        self._line.release(self.worker, items, finished=items)

    def close(self) -> None:
        """What the worker has not answered goes back to those that wait."""
        items, self.items = self.items, 0
        self._line.release(self.worker, items, finished=0)
        self._call.queued += items
        self._line.change(queued=items)


@dataclass(eq=False)
class _Place:
    items: int
    call: Call
    grant: asyncio.Future[Grant]


class Line:
    """The line, and how many items each worker has.

    Args:
        limit: Most items that wait. A single call that is larger still gets in when nothing waits.
        worker_items: A worker gets a piece while it has fewer items than this.
        on_change: Called after every change of the numbers.
        clock: Seconds.
    """

    def __init__(
        self,
        limit: int,
        worker_items: int,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._worker_items = worker_items
        self._on_change = on_change
        self._clock = clock
        self._line: deque[_Place] = deque()
        self._ready: dict[str, None] = {}
        self._outstanding: dict[str, int] = {}
        self._queued = 0
        self._finished = 0
        self._busy_seconds = 0.0
        self._queued_seconds = 0.0
        self._counted_until = clock()

    @property
    def numbers(self) -> PoolNumbers:
        """The present numbers."""
        self._count_time()
        return PoolNumbers(
            queued_items=self._queued,
            running_items=sum(self._outstanding.values()),
            ready_workers=len(self._ready),
            finished_items=self._finished,
            busy_worker_seconds=self._busy_seconds,
            queued_item_seconds=self._queued_seconds,
        )

    def outstanding(self, worker: str) -> int:
        """Items that a worker has."""
        return self._outstanding.get(worker, 0)

    @contextmanager
    def admit(self, items: int) -> Iterator[Call]:
        """Lets a call in, until the block ends.

        Raises:
            ResourceExhaustedError: reason QUEUE_FULL, with the time after which a repeat makes sense.
        """
        if self._queued and self._queued + items > self._limit:
            raise ResourceExhaustedError(
                f"{self._queued:,} items wait for a worker and {items:,} more would pass the limit of "
                f"{self._limit:,}; send the call again a little later.",
                metadata={"limit": str(self._limit)},
                retry_after=_RETRY_AFTER_SECONDS,
            )
        call = Call(self, items)
        self.change(queued=items)
        try:
            yield call
        finally:
            call.close()

    @asynccontextmanager
    async def worker_for(self, call: Call, items: int, seconds: float, *, again: bool = False) -> AsyncIterator[Grant]:
        """Waits for a worker for `items` items of a call, which it has until the block ends.

        Args:
            call: Admitted.
            items: How many of its items.
            seconds: Longest wait.
            again: The items had a worker already that broke off: they go to the head of the line.

        Raises:
            UnavailableError: reason NO_WORKER; no worker took them in time.
        """
        grant = await self._wait(call, items, seconds, again)
        try:
            yield grant
        finally:
            grant.close()

    async def _wait(self, call: Call, items: int, seconds: float, again: bool) -> Grant:
        try:
            async with asyncio.timeout(seconds), call.place:
                place = _Place(items, call, asyncio.get_running_loop().create_future())
                self._line.appendleft(place) if again else self._line.append(place)
                self._serve()
                try:
                    return await place.grant
                except asyncio.CancelledError:
                    self._withdraw(place)
                    raise
        except TimeoutError:
            raise self._nobody(seconds) from None

    def _withdraw(self, place: _Place) -> None:
        """The call gave up; it may have been given a worker at that very moment."""
        if place.grant.done() and not place.grant.cancelled():
            place.grant.result().close()
        elif place in self._line:
            self._line.remove(place)

    def _nobody(self, seconds: float) -> UnavailableError:
        why = "all workers are busy" if self._ready else "no worker is ready yet; the pool is being woken"
        return UnavailableError(
            f"Waited {seconds:.1f} s for a worker: {why}. Send the call again, or give it a longer deadline.",
            reason="NO_WORKER",
            retry_after=_RETRY_AFTER_SECONDS,
        )

    def add_worker(self, worker: str) -> None:
        """A worker may get items from now on."""
        self._ready[worker] = None
        self.change()
        self._serve()

    def remove_worker(self, worker: str) -> None:
        """A worker gets no further items; what it has it may finish."""
        self._ready.pop(worker, None)
        self.change()

    def release(self, worker: str, items: int, *, finished: int) -> None:
        """A worker has fewer items."""
        if items:
            self._count_time()
            self._outstanding[worker] -= items
            if not self._outstanding[worker]:
                del self._outstanding[worker]
            self._finished += finished
            self.change()
            self._serve()

    def change(self, *, queued: int = 0) -> None:
        """Counts items that began or ceased to wait, and tells."""
        self._count_time()
        self._queued += queued
        self._on_change()

    def _serve(self) -> None:
        """Gives the head of the line to the least busy worker, as long as one has room."""
        while self._line and (worker := self._least_busy()) is not None:
            place = self._line.popleft()
            if place.grant.done():
                continue
            self._count_time()
            self._outstanding[worker] = self.outstanding(worker) + place.items
            place.call.queued -= place.items
            self.change(queued=-place.items)
            place.grant.set_result(Grant(self, place.call, worker, place.items))

    def _least_busy(self) -> str | None:
        worker = min(self._ready, key=self.outstanding, default=None)
        return worker if worker is not None and self.outstanding(worker) < self._worker_items else None

    def _count_time(self) -> None:
        now = self._clock()
        self._busy_seconds += len(self._outstanding) * (now - self._counted_until)
        self._queued_seconds += self._queued * (now - self._counted_until)
        self._counted_until = now
