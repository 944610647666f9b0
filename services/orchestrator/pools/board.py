"""What is known of all pools, and what is decided about them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from services.orchestrator.journal import Signal
from services.orchestrator.pools.journey import Journey
from services.orchestrator.pools.measuring import RateMeter, StartMeter
from services.orchestrator.pools.models import Decision, FrontStatus, PoolRules, PoolView, Speed
from services.orchestrator.pools.planner import Need, PoolState, decide, needs


@dataclass
class _Pool:
    rules: PoolRules
    decision: Decision
    front: FrontStatus | None = None
    heard: bool = False
    rows: int = 0
    rate: RateMeter = field(default_factory=RateMeter)
    start: StartMeter = field(default_factory=StartMeter)

    @property
    def speed(self) -> Speed:
        rate, start = self.rate.items_per_second, self.start.start_seconds
        return Speed(
            self.rules.items_per_second if rate is None else rate,
            self.rules.start_seconds if start is None else start,
            rate is not None,
            start is not None,
        )


class PoolBoard:
    """The pools, kept up to date by what fronts say and by looks at the runs.

    Attributes:
        changed: Given when a pool wants another number of replicas, or has one.
    """

    def __init__(self, rules: Iterable[PoolRules], now: datetime) -> None:
        self.changed = Signal()
        self._pools = {
            one.name: _Pool(one, Decision(one.min_replicas, "nobody has looked yet", now, now)) for one in rules
        }

    def front_says(self, name: str, status: FrontStatus | None, now: datetime) -> None:
        """Takes the status of a pool's front, None where it does not answer."""
        pool = self._pools[name]
        if status is not None and not pool.heard:
            self._adopt(pool, status, now)
        had = pool.front.ready_workers if pool.front else 0
        pool.front = status
        if status is not None:
            pool.rate.note(status)
            pool.start.note(pool.decision.want, status.ready_workers, now)
            if status.ready_workers != had:
                self.changed.give()

    def _adopt(self, pool: _Pool, status: FrontStatus, now: datetime) -> None:
        """After a start of this process: replicas that are there stay for the idle time, needed or not."""
        pool.heard = True
        there = min(status.ready_workers, pool.rules.max_replicas)
        if there > pool.decision.want:
            pool.decision = Decision(there, "they were there at the start", now, now)
        self.changed.give()

    def look(self, journeys: Sequence[Journey], now: datetime) -> None:
        """Decides anew."""
        states = {
            name: PoolState(pool.rules, pool.speed, pool.front, pool.start.waking_seconds(now))
            for name, pool in self._pools.items()
        }
        trains = next((one.run_id for one in journeys if one.waits_for_training), "")
        for name, need in needs(states, journeys).items():
            self._decide(self._pools[name], need, now, trains)

    def _decide(self, pool: _Pool, need: Need, now: datetime, trains: str) -> None:
        before = pool.decision
        pool.rows = need.rows
        pool.decision = decide(pool.rules, before, need, now, trains=trains if pool.rules.hand_over else "")
        if pool.front is not None:
            pool.start.note(pool.decision.want, pool.front.ready_workers, now)
        if pool.decision.want != before.want:
            self.changed.give()

    def view(self, name: str) -> PoolView | None:
        """A pool by name."""
        pool = self._pools.get(name)
        if pool is None:
            return None
        return PoolView(pool.rules, pool.decision, pool.rows, pool.front, pool.speed, pool.heard)

    def views(self) -> list[PoolView]:
        """All pools."""
        return [view for name in self._pools if (view := self.view(name)) is not None]

    def leaving(self) -> list[str]:
        """Pools that share GPUs with training and have more replicas than they need, for people."""
        found = []
        for view in self.views():
            if not view.rules.hand_over:
                continue
            if view.front is None:
                found.append(f"{view.rules.name} (its front does not answer)")
            elif view.have > view.decision.want:
                found.append(f"{view.rules.name} ({view.have} ready, {view.decision.want} needed)")
        return found
