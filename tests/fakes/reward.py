"""Reward models, and what is around the reward service, without models, files and other services."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ilf_common.engine.port import FinishReason, Sample
from ilf_common.errors import FailedPreconditionError, IlfError, NotFoundError
from services.reward.models import (
    BestOfNCall,
    Limits,
    RewardStatistics,
    SampledOutputs,
    StoredModels,
    TrainCall,
)
from services.reward.service import RewardService, Surroundings

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class FakeRewardModel:
    """A token is a character; the reward is the sum of the output's digits, plus `offset`."""

    def __init__(
        self, offset: float = 0.0, *, max_length: int = 1000, statistics: RewardStatistics | None = None
    ) -> None:
        self.offset = offset
        self.max_length = max_length
        self.statistics = statistics
        self.batches: list[list[int]] = []
        self.closed = False
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def encode(self, context: str, output: str) -> list[int]:
        return [*map(ord, context), 0, *map(ord, output), 0]

    def score(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        self.batches.append([len(ids) for ids in sequences])
        self.entered.set()
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        return [self.offset + self._value(ids) for ids in sequences]

    def _value(self, ids: Sequence[int]) -> float:
        output = "".join(map(chr, ids[list(ids).index(0) + 1 : -1]))
        return float(sum(int(character) for character in output if character.isdigit()))

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeWorld:
    """Checkpoints by URI, what is remembered, and the two other services."""

    models: dict[str, FakeRewardModel] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    remembered: StoredModels = field(default_factory=dict)
    outputs: tuple[str, ...] = ("3", "12", "9", "9")
    error: IlfError | None = None
    jobs: list[TrainCall] = field(default_factory=list)
    sampled: list[BestOfNCall] = field(default_factory=list)

    def digest(self, uri: str) -> str:
        if uri not in self.models:
            raise NotFoundError(
                f"Nothing at {uri}.", resource_type="checkpoint", resource_name=uri, reason="CHECKPOINT_NOT_FOUND"
            )
        return self.digests.get(uri, f"digest of {uri}")

    def fetch(self, uri: str) -> Path:
        self.digest(uri)
        return Path(uri)

    def load(self, folder: Path) -> FakeRewardModel:
        model = self.models[str(folder)]
        if model.error is not None:
            raise FailedPreconditionError("It is no reward model.", reason="CHECKPOINT_UNSUPPORTED")
        return model

    def read(self) -> StoredModels:
        return self.remembered

    def write(self, models: StoredModels) -> None:
        self.remembered = dict(models)

    async def sample(self, call: BestOfNCall) -> SampledOutputs:
        self.sampled.append(call)
        if self.error is not None:
            raise self.error
        samples = tuple(Sample(text, len(text), FinishReason.STOP, -1.0) for text in self.outputs)
        return SampledOutputs(samples, "policy@abc")

    async def create_job(self, call: TrainCall) -> str:
        if self.error is not None:
            raise self.error
        self.jobs.append(call)
        return f"jobs/{call.request_id}"

    def surroundings(self) -> Surroundings:
        return Surroundings(self, self, self, self, self, lambda: NOW)


@asynccontextmanager
async def running_service(world: FakeWorld, limits: Limits | None = None) -> Any:
    with ThreadPoolExecutor(max_workers=1) as executor:
        service = RewardService(world.surroundings(), executor, limits or Limits())
        await service.start()
        try:
            yield service
        finally:
            for model in world.models.values():
                model.gate.set()
            await service.stop()
