"""Judge models and an embedding model in this process: the real judging logic over instant engines."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence

from ilf_common.engine.port import Outcome, TextEngine
from ilf_common.errors import UnavailableError
from services.ranking.judging import JudgeModel
from services.ranking.models import AnswerLogprobs, Question


class InProcessJudgePool:
    """A `JudgePool` whose models are engines of this process.

    Attributes:
        calls: Model and number of questions of every call.
        questions: Every question asked, in order.
        down: Models that answer UNAVAILABLE.
        gate: Clear it to hold all calls.
        cancelled: Calls that were given up before their end.
    """

    def __init__(self, engines: Mapping[str, TextEngine]) -> None:
        self._models = {name: JudgeModel(engine) for name, engine in engines.items()}
        self.calls: list[tuple[str, int]] = []
        self.questions: list[Question] = []
        self.down: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.cancelled = 0

    async def answer(
        self, model: str, questions: Sequence[Question], timeout: float | None
    ) -> Sequence[Outcome[AnswerLogprobs]]:
        self.calls.append((model, len(questions)))
        self.questions.extend(questions)
        if model in self.down:
            raise UnavailableError("The judge model is down.", reason="ENGINE_UNAVAILABLE", retry_after=1.0)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await self._models[model].answer(questions)


class WordOverlapEmbedder:
    """An `Embedder` for which texts are alike as far as they share words."""

    def __init__(self) -> None:
        self.down = False

    async def similarities(
        self, groups: Sequence[tuple[str, tuple[str, ...]]], timeout: float | None
    ) -> Sequence[tuple[float, ...]]:
        if self.down:
            raise UnavailableError("The embedding model is down.", reason="ENGINE_UNAVAILABLE")
        return [tuple(_overlap(text, candidate) for candidate in candidates) for text, candidates in groups]


def _overlap(one: str, other: str) -> float:
    left, right = set(one.split()), set(other.split())
    return len(left & right) / max(1.0, math.sqrt(len(left) * len(right)))
