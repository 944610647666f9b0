"""The ground that all stages stand on: the run, its peers, and how a shard is reused or made."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ilf_common.errors import FailedPreconditionError
from services.orchestrator.calls import Item, Outcome
from services.orchestrator.codec import digest_of
from services.orchestrator.journal import Journal, Signal
from services.orchestrator.models import REWARD_MODEL, RunSpec, Template
from services.orchestrator.pools.ports import GpuOrder
from services.orchestrator.ports import (
    Clock,
    Datasets,
    Finetune,
    Plugin,
    Ranking,
    Refinement,
    Reward,
    ShardStore,
    TaskStore,
)
from services.orchestrator.rows import INPUT, Row, to_columns, with_columns
from services.orchestrator.run import Run, Usage
from services.orchestrator.shards import ShardId, ShardRecord, StageKey, shard_count, shard_key, why_again
from services.orchestrator.waiting import calls_of, collect, patiently

log = logging.getLogger("ilf.orchestrator")
CallT = TypeVar("CallT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Peers:
    """The other services."""

    refinement: Refinement
    ranking: Ranking
    reward: Reward
    finetune: Finetune
    plugin: Plugin


@dataclass(frozen=True)
class Limits:
    """How much is in flight.

    Attributes:
        shards_in_flight: Shards of one run at work at once.
        rank_rows: Rows of one ranking call. Fixed, because a call's composition may decide the last bit of a score.
        hand_over_seconds: How long a finetune job waits to be created until serving has left the GPUs to it.
    """

    shards_in_flight: int = 4
    rank_rows: int = 32
    hand_over_seconds: float = 600.0


@dataclass(frozen=True)
class ShardRows:
    """The rows of one shard so far, and the digest of all shards that they came from."""

    rows: list[Row]
    digest: str


@dataclass(frozen=True)
class Made:
    """What a stage made of a shard's rows."""

    rows: list[Row]
    usage: Usage = field(default_factory=Usage)


Maker = Callable[[Sequence[Row]], Awaitable[Made]]


@dataclass(frozen=True)
class RunWork:
    """One run at work."""

    journal: Journal
    peers: Peers
    shards: ShardStore
    datasets: Datasets
    tasks: TaskStore
    task_signal: Signal
    clock: Clock
    limits: Limits
    gpus: GpuOrder

    @property
    def run(self) -> Run:
        """The run now."""
        return self.journal.run

    @property
    def spec(self) -> RunSpec:
        """What the run was asked to do."""
        return self.journal.run.spec

    def shard(self, iteration: int, stage: str, index: int) -> ShardId:
        """A shard of this run."""
        return ShardId(self.run.id, iteration, stage, index)

    async def patiently(self, service: str, call: Callable[[], Awaitable[CallT]]) -> CallT:
        """A call that waits for a service that does not answer."""
        return await patiently(self.journal, self.clock, service, call)

    async def outcomes(
        self,
        service: str,
        stage: str,
        items: Sequence[Item],
        call: Callable[[Sequence[Item]], AsyncIterator[list[Outcome[ResultT]]]],
    ) -> dict[str, Outcome[ResultT]]:
        """The outcomes of a batch call by item id, however often it has to be made."""
        found: dict[str, Outcome[ResultT]] = {}
        for part in calls_of(items):

            async def collected(part: Sequence[Item] = part) -> dict[str, Outcome[ResultT]]:
                return await collect(self.journal.meter.counted(service, stage, part, call(part)), part)

            found.update(await self.patiently(service, collected))
        return found

    async def pinned_digest(self, what: str, model: str) -> str:
        """Digest of a model that must stay what it was when the run was created.

        Raises:
            FailedPreconditionError: MODEL_CHANGED.
        """
        served = await self.patiently("refinement", lambda: self.peers.refinement.model(model))
        return self._check_pin(what, model, served.digest)

    async def ranker_digest(self) -> str:
        """Digest of what its service says about the run's ranker."""
        stage = self.spec.rank
        if stage.ranker.name == REWARD_MODEL:
            return await self.patiently(stage.service, lambda: self.peers.reward.models_digest(stage.reward_models))
        return await self.patiently(stage.service, lambda: self.peers.ranking.ranker_digest(stage.ranker))

    async def pinned_ranker(self) -> str:
        """The ranker's digest; errors as in `pinned_digest`."""
        return self._check_pin("ranker", self.spec.rank.ranker.name, await self.ranker_digest())

    def _check_pin(self, what: str, name: str, digest: str) -> str:
        pinned = self.run.plan.pins.get(what, digest)
        if digest != pinned:
            raise FailedPreconditionError(
                f"The {what} {name!r} has changed since the run was created: its digest was {pinned[:12]} and is "
                f"{digest[:12]}. Serve the old one again, or create a new run.",
                reason="MODEL_CHANGED",
                metadata={"model": name},
            )
        return pinned

    async def load(self, iteration: int, index: int, stages: Sequence[str] = (INPUT,)) -> ShardRows:
        """The rows of a shard with what these stages say about them.

        Raises:
            FailedPreconditionError: SHARD_BROKEN; a part is not there, or not what its record says.
        """
        rows: list[Row] | None = None
        digest = ""
        for stage in stages:
            shard = self.shard(iteration, stage, index)
            record = await self.shards.record(shard)
            columns = await self.shards.read(shard, record) if record else None
            if record is None or columns is None:
                raise FailedPreconditionError(
                    f"{shard.folder}/{shard.file_name} is missing or broken in the artifact store.",
                    reason="SHARD_BROKEN",
                )
            rows = with_columns(stage, rows, columns)
            digest = _joined(digest, record.sha256)
        return ShardRows(rows or [], digest)

    async def published(self, before: ShardRows, key: StageKey, shard: ShardId) -> ShardRecord | None:
        """The record of the shard that this stage made of these rows before, if it did."""
        record = await self.shards.record(shard)
        return record if record and record.key == shard_key(key.for_input(before.digest)) else None

    async def advance(self, before: ShardRows, key: StageKey, shard: ShardId, make: Maker) -> ShardRows:
        """Takes a shard through a stage: reused where it is published under the same key, made otherwise."""
        parts = key.for_input(before.digest)
        found = await self.shards.record(shard)
        record = found if found and found.key == shard_key(parts) else None
        columns = await self.shards.read(shard, record) if record else None
        if record is not None and columns is not None:
            rows = with_columns(shard.stage, before.rows, columns)
        else:
            made = await make(before.rows)
            rows = made.rows
            record = await self._publish(shard, made, parts, found)
        self.journal.meter.shard_finished(shard.stage, (row.item_id for row in rows))
        await self._count(shard, record)
        return ShardRows(rows, _joined(before.digest, record.sha256))

    async def _publish(
        self, shard: ShardId, made: Made, parts: dict[str, str], before: ShardRecord | None
    ) -> ShardRecord:
        reason = (why_again(before.key_parts, parts) or "its bytes were not those of its record") if before else ""
        record = ShardRecord(
            key=shard_key(parts),
            key_parts=parts,
            sha256="",
            size=0,
            rows=len(made.rows),
            bad_rows=sum(1 for row in made.rows if row.failure is not None and row.failure.stage == shard.stage),
            usage=made.usage,
            generation=self.run.generation,
            reason=reason,
        )
        return await self.shards.publish(shard, to_columns(shard.stage, made.rows), record)

    async def _count(self, shard: ShardId, record: ShardRecord) -> None:
        status = await self.journal.advance(
            shard.iteration, shard.stage, done=record.rows, bad=record.bad_rows, usage=record.usage
        )
        limit = self.spec.max_bad_row_share or 0.0
        if status.bad_rows > limit * status.progress.total:
            raise FailedPreconditionError(
                f"Iteration {shard.iteration}, stage {shard.stage}: {status.bad_rows} of {status.progress.total} rows "
                f"failed, more than max_bad_row_share {limit:g} allows. The rows' own errors say why: see the run's "
                "samples.",
                reason="TOO_MANY_BAD_ROWS",
                metadata={"stage": shard.stage, "iteration": str(shard.iteration)},
            )

    async def over_shards(
        self, iteration: int, stages: Sequence[str], rows: int, work: Callable[[int], Awaitable[None]]
    ) -> None:
        """Takes all shards of an iteration through some stages, a few at a time, and writes the stages' manifests."""
        for stage in stages:
            await self.journal.begin_stage(iteration, stage, rows)
        indices = iter(range(shard_count(rows, self.spec.shard_rows)))

        async def worker() -> None:
            for index in indices:
                await work(index)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.limits.shards_in_flight):
                    group.create_task(worker())
        except BaseExceptionGroup as failed:
            # One cause is enough for people; the other shards were stopped because of it.
            raise failed.exceptions[0] from None
        for stage in stages:
            await self.shards.finish(self.shard(iteration, stage, 0), rows, self.spec.shard_rows)
            await self.journal.end_stage(iteration, stage)
            log.info("stage finished", extra={"run": self.run.id, "iteration": iteration, "stage": stage, "rows": rows})


def template_digest(template: Template | None) -> str:
    """Digest of a template's content; a template that the called service ships goes by its name."""
    if template is None or not template.text:
        return f"shipped:{template.name if template else ''}"
    return digest_of(replace(template, name=""))


def _joined(digest: str, sha256: str) -> str:
    return digest_of([digest, sha256])
