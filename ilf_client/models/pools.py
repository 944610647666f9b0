"""Pools of serving replicas."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Pool:
    """The replicas that serve one stage.

    Attributes:
        name: "refinement", "ranking" or "reward".
        want: Replicas that are asked for.
        have: Replicas that are ready.
        why: Why that many are wanted.
        since: Since when.
        backlog: Rows and calls that are to be worked off.
        rows: Those of them that runs have not sent yet.
        queued_items: Those that wait at the pool's front.
        running_items: Those that a replica has.
        items_per_second: What one replica works off; `rate_measured` says whether it is more than a guess.
        start_seconds: From the wish for a replica to the first; `start_measured` likewise.
        front_answers: Whether the pool's front answers.
    """

    name: str
    want: int = 0
    have: int = 0
    why: str = ""
    since: datetime | None = None
    backlog: int = 0
    rows: int = 0
    queued_items: int = 0
    running_items: int = 0
    items_per_second: float = 0.0
    rate_measured: bool = False
    start_seconds: float = 0.0
    start_measured: bool = False
    min_replicas: int = 0
    max_replicas: int = 0
    front_answers: bool = False
