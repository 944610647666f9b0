"""The models of ranking by the handle of their Serve application's ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from ilf_common.engine.port import Outcome
from ilf_common.errors import UnavailableError
from services.ranking.models import CandidateScore, CompareItem, Comparison, Judge, RankItem
from services.ranking.settings import RankingSettings

_PING_SECONDS = 10.0


class EnsembleHandle:
    """`JudgeEnsemble` and `Embedder`.

    Args:
        settings: How long calls and the start may take.
        handle: Of the ensemble's deployment; None until there is one.
    """

    def __init__(self, settings: RankingSettings, handle: Any = None) -> None:
        self._settings = settings
        self.handle = handle

    async def start(self) -> None:
        """Waits for the models that are kept loaded; the application is there already.

        Raises:
            DeadlineExceededError: They are not loaded in time.
            UnavailableError: One of them died.
        """
        from services.ranking.adapters.ray_serve_calls import call

        seconds = self._settings.ray.start_timeout_seconds
        await call(self._ready.load, seconds, timeout=seconds)

    async def stop(self) -> None:
        """The application stays."""

    async def check_health(self) -> None:
        """Raises `UnavailableError` while the ensemble does not answer."""
        from services.ranking.adapters.ray_serve_calls import call

        await call(self._ready.ping, timeout=_PING_SECONDS)

    async def rank(
        self, items: Sequence[RankItem], judges: Sequence[Judge], timeout: float | None
    ) -> list[Outcome[tuple[CandidateScore, ...]]]:
        """See `JudgeEnsemble.rank`."""
        outcomes: list[Outcome[tuple[CandidateScore, ...]]]
        outcomes = await self._ask(self._ready.rank, items, judges, timeout)
        return outcomes

    async def compare(
        self, items: Sequence[CompareItem], judges: Sequence[Judge], timeout: float | None
    ) -> list[Outcome[Comparison]]:
        """See `JudgeEnsemble.compare`."""
        outcomes: list[Outcome[Comparison]] = await self._ask(self._ready.compare, items, judges, timeout)
        return outcomes

    async def similarities(
        self, groups: Sequence[tuple[str, tuple[str, ...]]], timeout: float | None
    ) -> Sequence[tuple[float, ...]]:
        """See `Embedder.similarities`."""
        from services.ranking.adapters.ray_serve_calls import call
        from services.ranking.adapters.ray_serve_outcomes import unpack

        seconds = self._seconds(timeout)
        (outcome,) = unpack([await call(self._ready.similarities, groups, seconds, timeout=seconds)])
        if outcome.error is not None:
            raise outcome.error
        return cast("list[tuple[float, ...]]", outcome.value)

    async def _ask(self, method: Any, items: Any, judges: Any, timeout: float | None) -> Any:
        from services.ranking.adapters.ray_serve_calls import call
        from services.ranking.adapters.ray_serve_outcomes import unpack

        seconds = self._seconds(timeout)
        return unpack(await call(method, items, judges, seconds, timeout=seconds))

    def _seconds(self, timeout: float | None) -> float:
        longest = self._settings.ray.call_timeout_seconds
        return longest if timeout is None else min(timeout, longest)

    @property
    def _ready(self) -> Any:
        if self.handle is None:
            raise UnavailableError("The models are not loaded yet.", reason="ENGINE_UNAVAILABLE", retry_after=2.0)
        return self.handle
