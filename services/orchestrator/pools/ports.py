"""What the pools need from outside, and what training needs from them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from services.orchestrator.journal import Signal
from services.orchestrator.pools.models import FrontStatus


class PoolFront(Protocol):
    """The always-on front of a pool."""

    def watch(self) -> AsyncIterator[FrontStatus]:
        """Its status now and at each change; raises `IlfError` where the front does not answer."""
        ...


class GpuOrder(Protocol):
    """Who has the GPUs that serving and training share."""

    @property
    def changed(self) -> Signal:
        """Given when the answer of `leaving` may be another one."""
        ...

    def leaving(self) -> Sequence[str]:
        """What training has to wait for, for people: pools with more replicas than they need by now."""
        ...
