"""In a Ray cluster of somebody else the service answers once the kept models are loaded; no other one is woken."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest

from ilf_common.errors import DeadlineExceededError
from services.ranking.adapters.ray_serve_handle import EnsembleHandle
from services.ranking.adapters.ray_serve_replicas import EnsembleReplica
from services.ranking.settings import RankingSettings


class Model:
    """Handle of a model's deployment: pings are answered once it is loaded."""

    def __init__(self) -> None:
        self.loaded = asyncio.Event()
        self.pings = 0
        self.ping = self

    def remote(self) -> Response:
        self.pings += 1
        return Response(self.loaded.wait())


class Ensemble:
    """Handle of the ensemble's deployment."""

    def __init__(self, replica: EnsembleReplica) -> None:
        self._replica = replica
        self.load = self

    def remote(self, timeout: float) -> Response:
        return Response(self._replica.load(timeout))


class Response:
    """What a handle answers: to be awaited, or cancelled."""

    def __init__(self, work: Any) -> None:
        self._task = asyncio.ensure_future(work)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._task.__await__()

    def cancel(self) -> None:
        self._task.cancel()


def handle(models: dict[str, Model], kept: list[Model], seconds: float = 20.0) -> EnsembleHandle:
    settings = RankingSettings.model_validate({"ray": {"start_timeout_seconds": seconds}})
    return EnsembleHandle(settings, Ensemble(EnsembleReplica(models, None, kept)))


async def test_the_start_waits_for_the_models_that_are_kept_and_wakes_no_other() -> None:
    kept, sleeping = Model(), Model()
    starting = asyncio.create_task(handle({"kept": kept, "sleeping": sleeping}, [kept]).start())
    while not kept.pings:
        await asyncio.sleep(0)
    assert not starting.done()
    kept.loaded.set()
    await starting
    assert sleeping.pings == 0


async def test_the_start_ends_where_a_model_is_not_loaded_in_time() -> None:
    kept = Model()
    with pytest.raises(DeadlineExceededError):
        await handle({"kept": kept}, [kept], seconds=0.05).start()


def test_a_model_is_kept_that_may_not_go_to_zero() -> None:
    scaled = {"a": 0, "b": 1}
    models: dict[str, Any] = {
        name: {"source": "x", "autoscaling": {"min_replicas": number}} for name, number in scaled.items()
    }
    settings = RankingSettings.model_validate({"models": {**models, "c": {"source": "x", "replicas": 2}}})
    assert [name for name, model in settings.models.items() if model.is_kept] == ["b", "c"]
