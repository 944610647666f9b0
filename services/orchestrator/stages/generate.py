"""generate: the policy's initial output for each context, or the dataset's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from services.orchestrator.calls import SamplingCall, Texts
from services.orchestrator.codec import digest_of
from services.orchestrator.models import OutputSource
from services.orchestrator.rows import Row
from services.orchestrator.seeds import item_seed
from services.orchestrator.shards import StageKey
from services.orchestrator.stages.sampling import sampled
from services.orchestrator.work import Made, RunWork, template_digest

STAGE = "generate"


async def generate(work: RunWork, iteration: int, rows: int, policy: str) -> None:
    """Takes all shards of an iteration through the stage."""
    spec = work.spec
    if spec.generate.source is OutputSource.COLUMN:
        key = StageKey(STAGE, {"source": "column"})
    else:
        model = await work.patiently("refinement", lambda: work.peers.refinement.model(policy))
        key = StageKey(
            STAGE,
            {
                "source": "policy",
                "config": digest_of([spec.generate.sampling, spec.generate.post_processing]),
                "template": template_digest(spec.generate.template),
                "model": model.digest,
                "seed": str(spec.seed),
            },
        )

    async def make(before: Sequence[Row]) -> Made:
        if spec.generate.source is OutputSource.COLUMN:
            return Made(list(before))
        return await _sample(work, iteration, before, policy)

    async def one_shard(index: int) -> None:
        await work.advance(await work.load(iteration, index), key, work.shard(iteration, STAGE, index), make)

    await work.over_shards(iteration, (STAGE,), rows, one_shard)


async def _sample(work: RunWork, iteration: int, rows: Sequence[Row], policy: str) -> Made:
    stage = work.spec.generate
    call = SamplingCall(policy, stage.sampling, stage.template, stage.post_processing)

    def seed(item_id: str) -> int:
        return item_seed(work.spec.seed, iteration, STAGE, item_id)

    def keep(row: Row, samples: Texts) -> Row:
        return replace(row, initial_output=samples.texts[0])

    return await sampled(work, STAGE, call, rows, seed, keep)
