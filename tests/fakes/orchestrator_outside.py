"""Everything that a run needs from outside, in memory and instant, for tests of the loop without gRPC and DBOS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ilf_common.artifacts import ArtifactStore
from services.orchestrator.adapters.datasets import DatasetSource
from services.orchestrator.adapters.shard_files import ShardFiles
from services.orchestrator.calls import FinetuneOrder, Item, JobStatus, Outcome, ServedModel, Texts, TextScore
from services.orchestrator.journal import Journal, Signal
from services.orchestrator.pools.board import PoolBoard
from services.orchestrator.rows import Score
from services.orchestrator.run import Run, Usage
from services.orchestrator.work import Limits, Peers, RunWork


class StillClock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class InstantRefinement:
    """Models by name; texts follow from context, model and seed."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.order: list[str] = []

    async def model(self, name: str) -> ServedModel:
        return ServedModel(name, f"digest of {name}", f"/models/{name}")

    async def generate(self, call: Any, items: Sequence[Item]) -> AsyncIterator[list[Outcome[Texts]]]:
        self.order.append("generate")
        yield [Outcome(item.item_id, Texts((f"{item.context} by {call.model}",), (4,), Usage(2, 4))) for item in items]

    async def refine(self, call: Any, items: Sequence[Item]) -> AsyncIterator[list[Outcome[Texts]]]:
        for item in items:
            self.order.append(f"refine {item.item_id}")
            texts = tuple(f"{item.context} {number}" for number in range(call.sampling.n))
            yield [Outcome(item.item_id, Texts(texts, (3,) * len(texts), Usage(2, 6)))]

    async def score_texts(self, model: str, template: Any, items: Sequence[Item]) -> AsyncIterator[Any]:
        yield [Outcome(item.item_id, TextScore(-float(len(item.output)), 2)) for item in items]

    async def load_policy(self, *, request_id: str, name: str, uri: str, base_model: str) -> None:
        self.loaded.append(name)


class InstantRanking:
    """Later candidates are better."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    async def ranker_digest(self, ranker: Any) -> str:
        return "digest of the ranker"

    async def rank(self, ranker: Any, items: Sequence[Item]) -> AsyncIterator[list[Outcome[tuple[Score, ...]]]]:
        self.calls.append([item.item_id for item in items])
        yield [
            Outcome(item.item_id, tuple(Score(float(place)) for place in range(len(item.candidates)))) for item in items
        ]

    async def compare(self, judges: Any, items: Sequence[Item]) -> AsyncIterator[list[Outcome[float]]]:
        yield [Outcome(item.item_id, 0.5) for item in items]


class InstantReward:
    """Later candidates are better."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    async def models_digest(self, models: Sequence[str]) -> str:
        return f"digest of {models}"

    async def rank(self, models: Sequence[str], items: Sequence[Item]) -> AsyncIterator[list[Outcome[Any]]]:
        self.calls.append([item.item_id for item in items])
        yield [
            Outcome(item.item_id, tuple(Score(float(place)) for place in range(len(item.candidates)))) for item in items
        ]


class InstantFinetune:
    """Jobs that have succeeded when they are looked at."""

    def __init__(self) -> None:
        self.orders: dict[str, FinetuneOrder] = {}

    async def create(self, request_id: str, order: FinetuneOrder) -> str:
        self.orders[request_id] = order
        return f"jobs/{request_id}"

    async def watch(self, job: str) -> AsyncIterator[JobStatus]:
        yield JobStatus(job, "SUCCEEDED", 3, 3)

    async def cancel(self, job: str) -> None:
        del job


class InstantPlugin:
    """Feedback that wants every text shorter; every text scores 1."""

    async def give_feedback(self, address: str, items: Sequence[Item]) -> list[str]:
        return ["Shorter." for _ in items]

    async def score_outputs(self, address: str, items: Sequence[Item]) -> list[float]:
        return [1.0 for _ in items]


class OneRun:
    """A store for the one run of a test."""

    def __init__(self) -> None:
        self.saved: Run | None = None

    async def save(self, run: Run) -> None:
        self.saved = run


@dataclass
class RememberedSteps:
    """Steps that are answered from memory the second time, as a durable engine does."""

    names: list[str] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)

    async def run(self, name: str, action: Callable[[], Awaitable[Any]]) -> Any:
        self.names.append(name)
        if name not in self.answers:
            self.answers[name] = await action()
        return self.answers[name]


@dataclass
class Outside:
    """A run's work with hands on everything that it touches."""

    work: RunWork
    refinement: InstantRefinement
    ranking: InstantRanking
    reward: InstantReward
    finetune: InstantFinetune


def outside(folder: Path, run: Run, *, rank_rows: int = 4, tasks: Any = None) -> Outside:
    """A run's work over a store in a folder."""
    store = ArtifactStore(str(folder))
    clock = StillClock()
    refinement, ranking, reward, finetune = InstantRefinement(), InstantRanking(), InstantReward(), InstantFinetune()
    work = RunWork(
        Journal(run, OneRun(), clock),  # type: ignore[arg-type]
        Peers(refinement, ranking, reward, finetune, InstantPlugin()),
        ShardFiles(store),
        DatasetSource(store),
        tasks,
        Signal(),
        clock,
        Limits(shards_in_flight=2, rank_rows=rank_rows),
        PoolBoard([], clock.now()),
    )
    return Outside(work, refinement, ranking, reward, finetune)
