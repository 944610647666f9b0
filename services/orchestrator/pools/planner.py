"""How many replicas each pool needs now, from what runs have before them and what lies at the pools' fronts.

A pool is needed by rows that it can begin within its own start-up time: those of the stage at work, and those of a
stage that begins so soon that a replica which is asked for now is ready just then. So a pool wakes early, and by the
same rule it is let go when its next stage is farther away than a new start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.orchestrator.pools.journey import Journey, Leg, Share
from services.orchestrator.pools.models import Decision, FrontStatus, PoolRules, Speed


@dataclass(frozen=True)
class PoolState:
    """A pool as the planner sees it.

    Attributes:
        front: None where the front does not answer.
        waking_seconds: How long the pool has been waking; 0 where it is not.
    """

    rules: PoolRules
    speed: Speed
    front: FrontStatus | None = None
    waking_seconds: float = 0.0

    def replicas_for(self, rows: float) -> int:
        """Replicas that work so many rows off in the target time."""
        return self.rules.replicas(rows, self.speed.items_per_second)

    def rows_per_second(self, rows: float) -> float:
        """What the replicas that are there work off, or those that so many rows would get."""
        return (self.ready_workers or max(1, self.replicas_for(rows))) * self.speed.items_per_second

    @property
    def ready_workers(self) -> int:
        """Replicas that take calls, as far as is known."""
        return self.front.ready_workers if self.front else 0

    @property
    def seconds_to_wake(self) -> float:
        """Until the first replica takes calls."""
        if self.ready_workers:
            return 0.0
        return max(0.0, self.speed.start_seconds - self.waking_seconds)


@dataclass(frozen=True)
class _Demand:
    rows: int
    what: str
    run_id: str
    begins_in: float


@dataclass(frozen=True)
class Need:
    """What a pool needs.

    Attributes:
        replicas: Within the pool's limits.
        rows: Rows of runs that are not with the service yet.
        why: For people.
        yields: The pool does without replicas that it could use, so that another one gets its first.
    """

    replicas: int
    rows: int
    why: str
    yields: bool = False


def needs(pools: Mapping[str, PoolState], journeys: Sequence[Journey]) -> dict[str, Need]:
    """What each pool needs for all runs and callers together."""
    demands: dict[str, list[_Demand]] = {name: [] for name in pools}
    for one in journeys:
        for name, demand in _demands(pools, one).items():
            demands[name].append(demand)
    found = {name: _need(state, demands[name]) for name, state in pools.items()}
    return {name: _first_ones_first(pools, found, name) for name in pools}


_PATIENCE = 2.0
"""A pool that takes so many times its start-up time to wake does not find a GPU."""


def _first_ones_first(pools: Mapping[str, PoolState], found: Mapping[str, Need], name: str) -> Need:
    """A pool's need, held back while another pool that shares GPUs with it is needed and has no replica at all.

    It asks for no further replica then, and gives back all but one when the other one does not find a GPU: stages that
    work at the same time would else wait for each other for ever.
    """
    state, need = pools[name], found[name]
    if not state.rules.hand_over or need.replicas <= 1:
        return need
    asleep = [
        other
        for one, other in pools.items()
        if one != name and other.rules.hand_over and found[one].replicas and other.front and not other.ready_workers
    ]
    if not asleep:
        return need
    starved = any(other.waking_seconds > _PATIENCE * other.speed.start_seconds for other in asleep)
    most = max(state.rules.min_replicas, 1, 0 if starved else state.ready_workers)
    if need.replicas <= most:
        return need
    return replace(need, replicas=most, why=f"{asleep[0].rules.name} has none yet; {need.why}", yields=True)


def _demands(pools: Mapping[str, PoolState], journey: Journey) -> dict[str, _Demand]:
    """The largest demand of a run on each pool that it reaches in time."""
    found: dict[str, _Demand] = {}
    begins_in = 0.0
    trained = False
    for leg in journey.legs:
        for name, rows, seconds in _claims(pools, leg, begins_in):
            if trained and pools[name].rules.hand_over:
                # The GPUs are with training until the job has ended; then the leg after it is the one at work.
                continue
            known = found.get(name)
            if seconds <= pools[name].speed.start_seconds and rows and (known is None or rows > known.rows):
                stage = next(share.stage for share in leg.shares if share.pool == name)
                found[name] = _Demand(rows, f"{rows:,} rows of {stage}", journey.run_id, seconds)
        begins_in += _seconds_of(pools, leg)
        trained = trained or leg.trains
        if math.isinf(begins_in):
            break
    if journey.waits_for_pool in pools:
        found.setdefault(journey.waits_for_pool, _Demand(1, "a call that waits", journey.run_id, 0.0))
    return found


def _claims(pools: Mapping[str, PoolState], leg: Leg, begins_in: float) -> list[tuple[str, int, float]]:
    """Pool, rows and seconds until they begin, of each share of a leg."""
    claims = []
    before: Share | None = None
    for share in leg.shares:
        state = pools.get(share.pool)
        if state is not None:
            rows, wait = share.rows, 0.0
            if before is not None and before.pool in pools:
                rows, wait = _following(pools[before.pool], before, state, share)
            claims.append((share.pool, _beside(state, share, rows), begins_in + wait))
        before = share
    return claims


def _beside(state: PoolState, share: Share, rows: int) -> int:
    """Rows beside those that the front has and counts itself; one at least, so that the run's need is seen."""
    with_front = share.in_flight if state.front else 0
    return max(rows - with_front, min(rows, 1))


def _following(first: PoolState, before: Share, state: PoolState, share: Share) -> tuple[int, float]:
    """Rows of a share that another one feeds: those that lie ready, and those that arrive within the target time."""
    ready = max(share.rows - before.rows, 0)
    arriving = min(share.rows - ready, first.rows_per_second(before.rows) * state.rules.target_seconds)
    return ready + math.ceil(arriving), 0.0 if ready else first.seconds_to_wake


def _seconds_of(pools: Mapping[str, PoolState], leg: Leg) -> float:
    """How long a leg takes: as long as its slowest share."""
    paces = [
        pools[share.pool].seconds_to_wake + share.rows / pools[share.pool].rows_per_second(share.rows)
        for share in leg.shares
        if share.pool in pools and share.rows
    ]
    return leg.seconds if math.isinf(leg.seconds) or not paces else max(paces)


def _need(state: PoolState, demands: Sequence[_Demand]) -> Need:
    rows = sum(demand.rows for demand in demands)
    items = state.front.queued_items + state.front.running_items if state.front else 0
    replicas = state.replicas_for(rows + items)
    return Need(replicas, rows, _why(state, demands, items, replicas))


def _why(state: PoolState, demands: Sequence[_Demand], items: int, replicas: int) -> str:
    parts = [f"{demand.what} (run {demand.run_id}{_soon(demand)})" for demand in demands]
    if items:
        parts.append(f"{items:,} items at the front")
    if not parts:
        return f"never fewer than {replicas}" if replicas else "nobody needs it"
    return f"{' and '.join(parts)} at {state.speed.items_per_second:.3g} items/s a replica"


def _soon(demand: _Demand) -> str:
    return f", begins in {demand.begins_in:.0f} s" if demand.begins_in else ""


def decide(rules: PoolRules, before: Decision | None, need: Need, now: datetime, *, trains: str = "") -> Decision:
    """How many replicas a pool is to have.

    More at once; fewer once they have not been needed for the idle time, or at once when the pool yields to another
    one, or a run waits for GPUs that the pool shares with training: `trains` names that run.
    """
    if before is None or need.replicas > before.want:
        return Decision(need.replicas, need.why, now, now)
    why = f"run {trains} is to train: {need.why}" if trains else need.why
    if need.replicas == before.want:
        return replace(before, why=why, needed=now)
    if not trains and not need.yields and (now - before.needed).total_seconds() < rules.idle_seconds:
        return replace(before, why=f"kept for {rules.idle_seconds:g} s though {need.replicas} would do: {why}")
    return Decision(need.replicas, why, now, now)
