"""generate: the policy's initial output for each context, or the dataset's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ilf_common.errors import InternalError
from services.orchestrator.codec import digest_of
from services.orchestrator.models import OutputSource
from services.orchestrator.ports import Item, SamplingCall, Texts
from services.orchestrator.rows import Row
from services.orchestrator.run import Usage
from services.orchestrator.seeds import item_seed
from services.orchestrator.shards import StageKey
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
    items = [
        Item(row.item_id, row.context, seed=item_seed(work.spec.seed, iteration, STAGE, row.item_id))
        for row in rows
        if row.failure is None
    ]
    found = await work.outcomes("refinement", STAGE, items, lambda part: work.peers.refinement.generate(call, part))
    usage = Usage()
    made = []
    for row in rows:
        if row.failure is None:
            outcome = found[row.item_id]
            usage += outcome.result.usage if outcome.result else Usage()
            text = only_text(outcome.result)
            row = row.failed(STAGE, outcome.error or no_text()) if text is None else replace(row, initial_output=text)
        made.append(row)
    return Made(made, usage)


def only_text(result: Texts | None) -> str | None:
    """The text of a call with one sample an item."""
    return result.texts[0] if result and result.texts else None


def no_text() -> InternalError:
    """The error of an item that got neither a text nor an error."""
    return InternalError("The service answered neither a text nor an error for this item.", reason="NO_OUTPUT")
