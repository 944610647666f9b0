"""evaluate: what a policy answers to the test contexts, measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from ilf_common.errors import IlfError, InternalError
from services.orchestrator.calls import Item, SamplingCall, Texts
from services.orchestrator.codec import digest_of
from services.orchestrator.metrics import Metrics, ShardMetrics
from services.orchestrator.rows import INPUT, Row
from services.orchestrator.seeds import item_seed
from services.orchestrator.shards import StageKey
from services.orchestrator.stages.best_of_n import with_best_of_n
from services.orchestrator.stages.inputs import EVALUATION
from services.orchestrator.stages.sampling import sampled
from services.orchestrator.waiting import calls_of
from services.orchestrator.work import Made, RunWork, ShardRows, template_digest

STAGE = "evaluate"
_TIE = 0.5
_TIE_WIDTH = 1e-9


async def evaluate(work: RunWork, iteration: int, rows: int, policy: str) -> None:
    """Measures one policy; iteration 0 is the policy before any training."""
    spec = work.spec
    model = await work.patiently("refinement", lambda: work.peers.refinement.model(policy))
    compares = spec.evaluate.win_rate and iteration != EVALUATION
    key = StageKey(
        STAGE,
        {
            "config": digest_of(replace(spec.evaluate, plugin_address=str(bool(spec.evaluate.plugin_address)))),
            "post_processing": digest_of(spec.generate.post_processing),
            "template": template_digest(spec.generate.template),
            "model": model.digest,
            "seed": str(spec.seed),
            "judges": work.run.plan.pins.get("judges", ""),
            "against": "initial policy" if compares else "nothing",
            **await _best_of_n_key(work),
        },
    )
    metrics = ShardMetrics()

    async def one_shard(index: int) -> None:
        before = await work.load(EVALUATION, index)
        rivals: dict[str, str] = {}
        if compares:
            first = await work.load(EVALUATION, index, (INPUT, STAGE))
            before = ShardRows(before.rows, first.digest)
            rivals = {row.item_id: row.output or "" for row in first.rows if row.failure is None}
        after = await work.advance(
            before, key, work.shard(iteration, STAGE, index), lambda rows: _measured(work, policy, rows, rivals)
        )
        metrics.add(index, _metrics(after.rows))

    await work.over_shards(iteration, (STAGE,), rows, one_shard)
    await work.journal.set_metrics(iteration, metrics.result())
    await work.journal.change(lambda run: run.with_iteration(replace(run.iteration(iteration), policy=policy)))


async def _best_of_n_key(work: RunWork) -> dict[str, str]:
    """What best-of-N adds to the key of a shard; nothing where nobody asked for it."""
    models = work.spec.evaluate.best_of_n.reward_models
    if not models:
        return {}
    return {"reward_models": await work.patiently("reward", lambda: work.peers.reward.models_digest(models))}


def _metrics(rows: Sequence[Row]) -> Metrics:
    metrics = Metrics()
    good = [row for row in rows if row.failure is None]
    metrics.add("exact_match", (row.exact_match for row in good))
    metrics.add("nll", (row.nll for row in good))
    metrics.add("nll_per_token", (row.nll / row.nll_tokens for row in good if row.nll is not None and row.nll_tokens))
    metrics.add("win_rate", (row.win for row in good))
    metrics.add("mean_length", (row.output_tokens for row in good))
    metrics.add("best_of_n_exact_match", (row.best_exact_match for row in good))
    metrics.add("best_of_n_reward", (row.best_reward for row in good))
    return metrics


async def _measured(work: RunWork, policy: str, rows: Sequence[Row], rivals: dict[str, str]) -> Made:
    made = await _answered(work, policy, rows)
    found = made.rows
    if work.spec.evaluate.plugin_address:
        found = await _with_exact_match(work, found)
    if work.spec.evaluate.nll:
        found = await _with_nll(work, policy, found)
    if rivals:
        found = await _with_wins(work, found, rivals)
    usage = made.usage
    if work.spec.evaluate.best_of_n.n:
        best = await with_best_of_n(work, policy, found)
        found, usage = await _with_best_exact_match(work, best.rows), usage + best.usage
    return Made(found, usage)


async def _answered(work: RunWork, policy: str, rows: Sequence[Row]) -> Made:
    spec = work.spec
    call = SamplingCall(policy, spec.evaluate.sampling, spec.generate.template, spec.generate.post_processing)

    def seed(item_id: str) -> int:
        return item_seed(spec.seed, EVALUATION, STAGE, item_id)

    def keep(row: Row, samples: Texts) -> Row:
        return replace(row, output=samples.texts[0], output_tokens=samples.token_counts[0])

    return await sampled(work, STAGE, call, rows, seed, keep)


async def _with_exact_match(work: RunWork, rows: Sequence[Row]) -> list[Row]:
    scores = await _exact_matches(work, {row.item_id: (row.context, row.output) for row in rows if row.failure is None})
    return [replace(row, exact_match=scores[row.item_id]) if row.failure is None else row for row in rows]


async def _with_best_exact_match(work: RunWork, rows: Sequence[Row]) -> list[Row]:
    if not work.spec.evaluate.plugin_address:
        return list(rows)
    chosen = {row.item_id: (row.context, row.best_output) for row in rows if row.failure is None}
    scores = await _exact_matches(work, chosen)
    return [replace(row, best_exact_match=scores[row.item_id]) if row.failure is None else row for row in rows]


async def _exact_matches(work: RunWork, outputs: Mapping[str, tuple[str, str | None]]) -> dict[str, float]:
    """The plugin's scores of contexts and outputs, by item."""
    address = work.spec.evaluate.plugin_address
    items = [Item(item_id, context, output=output or "") for item_id, (context, output) in outputs.items()]
    scores: dict[str, float] = {}
    for part in calls_of(items):
        given = await work.patiently("plugin", partial(work.peers.plugin.score_outputs, address, part))
        scores.update({item.item_id: score for item, score in zip(part, given, strict=True)})
    return scores


async def _with_nll(work: RunWork, policy: str, rows: Sequence[Row]) -> list[Row]:
    """Negative log-likelihood of the references, in nats; rows without a reference have none."""
    template = work.spec.generate.template
    items = [
        Item(row.item_id, row.context, output=row.reference) for row in rows if row.failure is None and row.reference
    ]
    found = await work.outcomes(
        "refinement", STAGE, items, lambda part: work.peers.refinement.score_texts(policy, template, part)
    )
    made = []
    for row in rows:
        if row.item_id in found and row.failure is None:
            outcome = found[row.item_id]
            score = outcome.result
            if score is None or not math.isfinite(score.logprob):
                row = row.failed(STAGE, outcome.error or _no_number("log-probability"))
            else:
                row = replace(row, nll=-score.logprob, nll_tokens=score.token_count)
        made.append(row)
    return made


async def _with_wins(work: RunWork, rows: Sequence[Row], rivals: dict[str, str]) -> list[Row]:
    """Wins against the initial policy's output: 1, 0, or 0.5 for a tie; equal outputs tie without being asked about."""
    judges = work.spec.evaluate.judges
    asked = [row for row in rows if row.failure is None and rivals.get(row.item_id, row.output) != row.output]
    items = [Item(row.item_id, row.context, output=row.output or "", other_output=rivals[row.item_id]) for row in asked]
    found = await work.outcomes("ranking", STAGE, items, lambda part: work.peers.ranking.compare(judges, part))
    made = []
    for row in rows:
        if row.failure is None and row.item_id in found:
            outcome = found[row.item_id]
            if outcome.result is None:
                row = row.failed(STAGE, outcome.error or _no_number("preference"))
            else:
                row = replace(row, win=_win(outcome.result))
        elif row.failure is None and row.item_id in rivals:
            row = replace(row, win=_TIE)
        made.append(row)
    return made


def _win(probability: float) -> float:
    if abs(probability - _TIE) <= _TIE_WIDTH:
        return _TIE
    return 1.0 if probability > _TIE else 0.0


def _no_number(what: str) -> IlfError:
    return InternalError(f"The service answered neither a {what} nor an error for this item.", reason="NO_OUTPUT")
