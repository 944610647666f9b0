"""What is measured of a pool: how fast a replica works, and how long the first one takes to start."""

from __future__ import annotations

from collections import deque
from datetime import datetime

from services.orchestrator.pools.models import FrontStatus

_WINDOW_SECONDS = 120.0
"""Seconds of work that a rate remembers: stages differ, and the newest one counts."""

_LEAST_ITEMS = 8
_LEAST_SECONDS = 0.5
_REMEMBERED_STARTS = 5


class RateMeter:
    """Items that one replica finishes in a second of work, from the front's counters."""

    def __init__(self) -> None:
        self._items = 0.0
        self._seconds = 0.0
        self._last = FrontStatus()

    def note(self, status: FrontStatus) -> None:
        """Takes a status; counters that went back are those of a front that began anew."""
        before = self._last
        if status.finished_items < before.finished_items or status.busy_worker_seconds < before.busy_worker_seconds:
            before = FrontStatus()
        self._items += status.finished_items - before.finished_items
        self._seconds += status.busy_worker_seconds - before.busy_worker_seconds
        self._last = status
        if self._seconds > _WINDOW_SECONDS:
            self._items *= _WINDOW_SECONDS / self._seconds
            self._seconds = _WINDOW_SECONDS

    @property
    def items_per_second(self) -> float | None:
        """The rate, None until there is enough to tell."""
        if self._items < _LEAST_ITEMS or self._seconds < _LEAST_SECONDS:
            return None
        return self._items / self._seconds


class StartMeter:
    """Seconds from the first wish for a replica to the first one that is ready.

    The shortest of the last starts counts: what took longer waited for a free GPU or for an image, and waking the pool
    earlier the next time would only hold a GPU for longer.
    """

    def __init__(self) -> None:
        self._asleep = False
        self._woken: datetime | None = None
        self._starts: deque[float] = deque(maxlen=_REMEMBERED_STARTS)

    def note(self, want: int, ready: int, now: datetime) -> None:
        """Takes what is wanted and what is there. Only a pool that was seen asleep is timed."""
        if self._woken is not None and ready > 0:
            self._starts.append((now - self._woken).total_seconds())
        if ready > 0 or want == 0:
            self._woken = None
        elif self._asleep:
            self._woken = now
        self._asleep = want == 0 and ready == 0

    @property
    def start_seconds(self) -> float | None:
        """The start-up time, None until one was seen."""
        return min(self._starts, default=None)

    def waking_seconds(self, now: datetime) -> float:
        """How long the pool has been waking; 0 where it is not."""
        return (now - self._woken).total_seconds() if self._woken else 0.0
