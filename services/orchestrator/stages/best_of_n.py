"""Best-of-N in evaluation: what the policy answers when reward models choose among N of its samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ilf_common.errors import InternalError
from services.orchestrator.calls import Item, Outcome, SamplingCall, Texts
from services.orchestrator.rows import Row, Score
from services.orchestrator.seeds import item_seed
from services.orchestrator.stages.inputs import EVALUATION
from services.orchestrator.stages.sampling import sampled
from services.orchestrator.work import Made, RunWork

STAGE = "evaluate"
_DRAWS = "best_of_n"
"""Tells the seeds of these samples from that of the single output."""


async def with_best_of_n(work: RunWork, policy: str, rows: Sequence[Row]) -> Made:
    """The rows with the sample of the highest reward, the first of equals; a row without one is bad."""
    drawn = await _drawn(work, policy, rows)
    items = [Item(row.item_id, row.context, candidates=row.refinements) for row in drawn.rows if row.failure is None]
    models = work.spec.evaluate.best_of_n.reward_models
    found = await work.outcomes("reward", STAGE, items, lambda part: work.peers.reward.rank(models, part))
    chosen = [_chosen(row, found[row.item_id]) if row.failure is None else row for row in drawn.rows]
    # The samples themselves are not kept.
    return Made([replace(row, refinements=()) for row in chosen], drawn.usage)


async def _drawn(work: RunWork, policy: str, rows: Sequence[Row]) -> Made:
    """The rows with their samples as candidates."""
    spec = work.spec
    stage = spec.evaluate.best_of_n
    call = SamplingCall(policy, stage.sampling, spec.generate.template, spec.generate.post_processing)

    def seed(item_id: str) -> int:
        return item_seed(spec.seed, EVALUATION, _DRAWS, item_id)

    def keep(row: Row, samples: Texts) -> Row:
        return replace(row, refinements=samples.texts)

    return await sampled(work, STAGE, call, rows, seed, keep)


def _chosen(row: Row, outcome: Outcome[tuple[Score, ...]]) -> Row:
    scores = [one.score for one in outcome.result or ()]
    if len(scores) != len(row.refinements) or not all(map(math.isfinite, scores)):
        wrong = InternalError("The reward service answered no finite reward for each sample.", reason="NO_SCORES")
        return row.failed(STAGE, outcome.error or wrong)
    best = max(range(len(scores)), key=scores.__getitem__)
    return replace(row, best_output=row.refinements[best], best_reward=scores[best])
