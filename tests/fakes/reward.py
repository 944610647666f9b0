"""Reward models, and what is around the reward service, without models, files and other services."""

from __future__ import annotations

import math
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
from ilf_common.rewards.card import RewardCard, RewardStatistics
from ilf_common.rewards.comparisons import Comparisons
from ilf_common.rewards.inputs import RewardInputs
from ilf_common.rewards.kinds import RewardLoss
from ilf_common.templates import PromptTemplate
from services.reward.models import BestOfNCall, Limits, SampledOutputs, StoredModels, TrainCall
from services.reward.service import RewardService, Surroundings
from services.reward.shelf import ModelShelf

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Characters:
    """One token a character, 0 at an end."""

    def encode_prompt(self, text: str) -> list[int]:
        return [*map(ord, text), 0]

    def encode_completion(self, text: str, add_eos: bool) -> list[int]:
        return [*map(ord, text), *[0] * add_eos]


COMPARING = PromptTemplate("fake", "{context}|{output_a}|{output_b}", "", ("A",), ("B",))
ASKING = PromptTemplate("fake", "{context}|{candidate}", "", ("Y",), ("N",))


class FakeRewardModel:
    """A token is a character; the reward is the sum of the output's digits, plus `offset`.

    One that is asked says by how much the (first) output's digits are more than the second's.
    """

    def __init__(
        self,
        offset: float = 0.0,
        *,
        max_length: int = 1000,
        statistics: RewardStatistics | None = None,
        loss: RewardLoss = RewardLoss.BRADLEY_TERRY,
        temperature: float = 1.0,
        trained_on: frozenset[str] = frozenset(),
    ) -> None:
        question = {RewardLoss.A_B: COMPARING, RewardLoss.YES_NO: ASKING}.get(loss)
        self.offset = offset
        self.max_length = max_length
        self.card = RewardCard(loss, question, statistics, temperature, trained_on=trained_on)
        self.inputs = RewardInputs(loss, Characters(), question)
        self.batches: list[list[int]] = []
        self.closed = False
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def score(self, sequences: Sequence[Sequence[int]]) -> list[float]:
        self.batches.append([len(ids) for ids in sequences])
        self.entered.set()
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        return [self.offset + self._value(ids) for ids in sequences]

    def _value(self, ids: Sequence[int]) -> float:
        text = "".join(map(chr, ids))
        if self.card.loss is RewardLoss.BRADLEY_TERRY:
            return _digits(text.split("\0")[1])
        first, *second = text.strip("\0").split("|")[1:]
        return _digits(first) - sum(map(_digits, second))

    def close(self) -> None:
        self.closed = True


def _digits(text: str) -> float:
    return math.nan if "?" in text else float(sum(int(character) for character in text if character.isdigit()))


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
    comparisons: Comparisons = field(default_factory=lambda: Comparisons((), {}))

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

    def read(self, uri: str = "", slice_column: str = "") -> Any:
        """What is remembered, or the comparisons of a dataset."""
        return self.comparisons if uri else self.remembered

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


@asynccontextmanager
async def running_service(world: FakeWorld, limits: Limits | None = None) -> Any:
    with ThreadPoolExecutor(max_workers=1) as executor:
        models = ModelShelf(world, world, world, lambda: NOW, executor, limits or Limits())
        await models.start()
        try:
            yield RewardService(models, Surroundings(world, world, world))
        finally:
            for model in world.models.values():
                model.gate.set()
            await models.stop()
