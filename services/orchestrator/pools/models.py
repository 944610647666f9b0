"""A pool: what was configured, what its front says, what was measured, and what is wanted of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

REFINEMENT, RANKING, REWARD = "refinement", "ranking", "reward"


@dataclass(frozen=True)
class PoolRules:
    """What was configured of a pool.

    Attributes:
        target_seconds: The backlog is to be worked off in this time.
        idle_seconds: So long replicas stay that are not needed any more.
        items_per_second: Of one replica; a first guess, until it is measured.
        start_seconds: From the wish for a replica to one that is ready; a first guess too.
        hand_over: The pool shares its GPUs with training.
    """

    name: str
    min_replicas: int = 0
    max_replicas: int = 1
    target_seconds: float = 60.0
    idle_seconds: float = 60.0
    items_per_second: float = 1.0
    start_seconds: float = 60.0
    hand_over: bool = False

    def replicas(self, backlog: float, items_per_second: float) -> int:
        """Replicas that work a backlog off in the target time; none for none."""
        wanted = math.ceil(backlog / (items_per_second * self.target_seconds))
        return max(self.min_replicas, min(wanted, self.max_replicas))


@dataclass(frozen=True)
class FrontStatus:
    """What a pool's front says. The last two are counters.

    Attributes:
        queued_items: Items that wait for a worker.
        running_items: Items that a worker has.
        ready_workers: Workers that take calls.
        finished_items: Items answered since the front began.
        busy_worker_seconds: Seconds in which a worker had work, summed over the workers.
    """

    queued_items: int = 0
    running_items: int = 0
    ready_workers: int = 0
    finished_items: int = 0
    busy_worker_seconds: float = 0.0


@dataclass(frozen=True)
class Speed:
    """How fast one replica works and starts."""

    items_per_second: float
    start_seconds: float
    rate_measured: bool = False
    start_measured: bool = False


@dataclass(frozen=True)
class Decision:
    """How many replicas a pool is to have.

    Attributes:
        since: Since when that many are wanted.
        needed: When that many were needed last.
    """

    want: int
    why: str
    since: datetime
    needed: datetime


@dataclass(frozen=True)
class PoolView:
    """A pool as people see it.

    Attributes:
        rows: Rows of runs that are not with the service yet.
        front: None where the front does not answer.
        heard: Whether the front has answered since this process began; before that, nobody knows what it has.
    """

    rules: PoolRules
    decision: Decision
    rows: int
    front: FrontStatus | None
    speed: Speed
    heard: bool

    @property
    def have(self) -> int:
        """Replicas that are ready."""
        return self.front.ready_workers if self.front else 0

    @property
    def is_known(self) -> bool:
        """Whether the decision may be acted on: a need is one, but no need is none before the front has answered."""
        return self.heard or self.decision.want > self.rules.min_replicas

    @property
    def backlog(self) -> int:
        """Rows and items that are to be worked off."""
        return self.rows + (self.front.queued_items + self.front.running_items if self.front else 0)
