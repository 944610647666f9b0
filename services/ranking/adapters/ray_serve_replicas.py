"""What runs inside Ray: one class per kind of replica."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ilf_common.engine.build import build_engine
from ilf_common.engine.port import Outcome
from ilf_common.engine.settings import EngineSettings
from ilf_common.errors import IlfError, UnavailableError
from services.ranking.adapters.embedding_model import EmbeddingModel
from services.ranking.adapters.ray_serve_calls import call
from services.ranking.adapters.ray_serve_outcomes import Packed, pack, unpack
from services.ranking.ensemble import Ensemble
from services.ranking.judging import JudgeModel
from services.ranking.models import (
    AnswerLogprobs,
    CandidateScore,
    CompareItem,
    Comparison,
    Judge,
    Question,
    RankItem,
)
from services.ranking.settings import EmbeddingSettings, JudgeModelSettings


class JudgeReplica:
    """Holds the engine of one judge model."""

    async def __init__(self, settings: JudgeModelSettings) -> None:  # type: ignore[misc]
        _use_all_cpus()
        self._engine = build_engine(settings.source, _for_judging(settings.engine))
        await self._engine.start()
        self._model = JudgeModel(self._engine)

    async def answer(self, questions: Sequence[Question]) -> list[Packed[AnswerLogprobs]]:
        """A batch of questions; a dead engine is every question's error, and Serve's health check replaces it."""
        try:
            return pack(await self._model.answer(questions))
        except UnavailableError as error:
            return pack(Outcome(index, error=error) for index in range(len(questions)))

    async def check_health(self) -> None:
        """Serve calls this now and then, and replaces the replica when it raises."""
        await self._engine.check_health()

    async def ping(self) -> None:
        """Answers once the model is loaded."""


class EmbeddingReplica:
    """Holds the embedding model."""

    def __init__(self, settings: EmbeddingSettings) -> None:
        _use_all_cpus()
        self._model = EmbeddingModel(settings)
        self._free = asyncio.Lock()

    async def similarities(self, groups: Sequence[tuple[str, tuple[str, ...]]]) -> list[tuple[float, ...]]:
        """A batch of texts; one call at a time has the processor, the others wait."""
        async with self._free:
            return await asyncio.to_thread(self._model.similarities, groups)

    async def ping(self) -> None:
        """Answers once the model is loaded."""


class EnsembleReplica:
    """Renders the prompts of a batch of items, asks all judge models at once, and averages.

    Args:
        models: Handle of each judge model's deployment.
        embedding: Handle of the embedding deployment, if there is one.
        kept: Handles of those of them that always have a copy.
    """

    def __init__(self, models: Mapping[str, Any], embedding: Any, kept: Sequence[Any]) -> None:
        self._ensemble = Ensemble(_HandlePool(models))
        self._embedding = embedding
        self._kept = kept

    async def rank(
        self, items: Sequence[RankItem], judges: Sequence[Judge], timeout: float
    ) -> list[Packed[tuple[CandidateScore, ...]]]:
        """See `JudgeEnsemble.rank`."""
        return pack(await self._ensemble.rank(items, judges, timeout))

    async def compare(
        self, items: Sequence[CompareItem], judges: Sequence[Judge], timeout: float
    ) -> list[Packed[Comparison]]:
        """See `JudgeEnsemble.compare`."""
        return pack(await self._ensemble.compare(items, judges, timeout))

    async def similarities(
        self, groups: Sequence[tuple[str, tuple[str, ...]]], timeout: float
    ) -> Packed[list[tuple[float, ...]]]:
        """See `Embedder.similarities`; the error of the whole call travels as that of an outcome."""
        try:
            return pack([Outcome(0, await call(self._embedding.similarities, groups, timeout=timeout))])[0]
        except IlfError as error:
            return pack([Outcome[list[tuple[float, ...]]](0, error=error)])[0]

    async def ping(self) -> None:
        """Answers while this replica lives."""

    async def load(self, timeout: float) -> None:
        """Answers once all models that are kept are loaded; the others come with their first call."""
        await asyncio.gather(*(call(model.ping, timeout=timeout) for model in self._kept))


class _HandlePool:
    """`JudgePool` by deployment handles."""

    def __init__(self, models: Mapping[str, Any]) -> None:
        self._models = models

    async def answer(
        self, model: str, questions: Sequence[Question], timeout: float | None
    ) -> Sequence[Outcome[AnswerLogprobs]]:
        assert timeout is not None
        return unpack(await call(self._models[model].answer, questions, timeout=timeout))


def _for_judging(settings: EngineSettings) -> EngineSettings:
    """Judges take no adapters, for which an engine is slower, and their prompts differ in a short end alone.

    A prefix is shared in whole blocks, so blocks of vLLM's 128 tokens on a CPU would compute most of a candidate anew
    for each question; 32 is the smallest size that its kernels are made for.
    """
    import torch

    on_cpu = settings.device == "cpu" or not torch.cuda.is_available()
    block_size = settings.block_size or (32 if on_cpu else None)
    return settings.model_copy(update={"max_loras": 0, "block_size": block_size})


def _use_all_cpus() -> None:
    """Ray sets one thread for replicas that reserve no CPU; the libraries' own choice is better."""
    os.environ.pop("OMP_NUM_THREADS", None)
