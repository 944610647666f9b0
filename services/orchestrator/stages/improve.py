"""refine, rank, select: one shard after the other through all three, ranking as refinements arrive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from ilf_common.errors import UnavailableError
from services.orchestrator.calls import Item, Outcome, SamplingCall, Texts
from services.orchestrator.codec import digest_of
from services.orchestrator.metrics import Metrics, ShardMetrics
from services.orchestrator.models import NothingToChange
from services.orchestrator.rows import INPUT, Row, Score
from services.orchestrator.run import Usage
from services.orchestrator.seeds import item_seed
from services.orchestrator.selection import choose, weights
from services.orchestrator.shards import StageKey
from services.orchestrator.stages.rank import RankAhead, resolved_ranker
from services.orchestrator.stages.sampling import no_text
from services.orchestrator.waiting import calls_of, passes
from services.orchestrator.work import Made, RunWork, template_digest

REFINE, RANK, SELECT = "refine", "rank", "select"


@dataclass(frozen=True)
class _Keys:
    refine: StageKey
    rank: StageKey
    select: StageKey


async def improve(work: RunWork, iteration: int, rows: int) -> None:
    """Takes all shards of an iteration through refine, rank and (but for a preview) select."""
    keys = await _keys(work)
    stages = (REFINE, RANK) if work.spec.preview_rows else (REFINE, RANK, SELECT)
    metrics = ShardMetrics()

    async def one_shard(index: int) -> None:
        before = await work.load(iteration, index, (INPUT, "generate", "feedback"))
        ahead = RankAhead(work, iteration, before.rows)
        try:
            refined = await work.advance(
                before,
                keys.refine,
                work.shard(iteration, REFINE, index),
                lambda rows: _refine(work, iteration, rows, ahead),
            )
            ranked = await work.advance(refined, keys.rank, work.shard(iteration, RANK, index), ahead.rank)
        finally:
            ahead.close()
        if SELECT in stages:
            selected = await work.advance(
                ranked, keys.select, work.shard(iteration, SELECT, index), lambda rows: _select(work, rows)
            )
            metrics.add(index, _measure(selected.rows))

    await work.over_shards(iteration, stages, rows, one_shard)
    await work.journal.set_metrics(iteration, metrics.result())


async def _keys(work: RunWork) -> _Keys:
    spec = work.spec
    ranker = resolved_ranker(spec)
    return _Keys(
        StageKey(
            REFINE,
            {
                "config": digest_of([spec.refine.sampling, spec.refine.post_processing]),
                "nothing_to_change": spec.feedback.on_nothing_to_change.value,
                "template": template_digest(spec.refine.template),
                "model": await work.pinned_digest("refiner", spec.refine.refiner),
                "seed": str(spec.seed),
            },
        ),
        StageKey(RANK, {"ranker": digest_of(ranker), "server": await work.pinned_ranker()}),
        StageKey(SELECT, {"config": digest_of(spec.select), "measured": str(bool(_plugin(work)))}),
    )


async def _refine(work: RunWork, iteration: int, rows: Sequence[Row], ahead: RankAhead) -> Made:
    """Samples refinements; each row goes to the ranker as soon as it has them."""
    stage = work.spec.refine
    call = SamplingCall(stage.refiner, stage.sampling, stage.template, stage.post_processing)
    made = [_without_refining(work, row) for row in rows]
    places = {row.item_id: place for place, row in enumerate(made) if _wants_refinements(row)}
    items = [
        Item(
            row.item_id,
            row.context,
            row.initial_output or "",
            row.feedback or "",
            item_seed(work.spec.seed, iteration, REFINE, row.item_id),
        )
        for row in made
        if row.item_id in places
    ]
    usage = Usage()
    for part in calls_of(items):
        outcomes = await work.patiently("refinement", partial(_stream, work, call, part, made, places, ahead))
        for outcome in outcomes:
            usage += outcome.result.usage if outcome.result else Usage()
    return Made(made, usage)


async def _stream(
    work: RunWork,
    call: SamplingCall,
    items: Sequence[Item],
    made: list[Row],
    places: dict[str, int],
    ahead: RankAhead,
) -> list[Outcome[Texts]]:
    """One call; fills in the rows as their outcomes arrive."""
    answered: dict[str, Outcome[Texts]] = {}
    answers = work.peers.refinement.refine(call, items)
    async for outcomes in work.journal.meter.counted("refinement", REFINE, items, answers):
        for outcome in outcomes:
            if outcome.error is not None and passes(outcome.error):
                raise outcome.error
            answered[outcome.item_id] = outcome
            place = places[outcome.item_id]
            texts = outcome.result.texts if outcome.result else ()
            # A repeated call may answer what failed the first time.
            row = replace(made[place], refinements=texts, failure=None)
            made[place] = row if texts else row.failed(REFINE, outcome.error or no_text())
            ahead.offer(place, made[place])
    if len(answered) < len(items):
        raise UnavailableError(f"ended its answer before {len(items) - len(answered)} of {len(items)} items had one")
    return list(answered.values())


def _without_refining(work: RunWork, row: Row) -> Row:
    """An item with nothing to change: its initial output stands, or nothing does."""
    if row.failure is None and row.nothing_to_change:
        keeps = work.spec.feedback.on_nothing_to_change is NothingToChange.KEEP
        return replace(row, refinements=(row.initial_output or "",) if keeps else ())
    return row


def _wants_refinements(row: Row) -> bool:
    return row.failure is None and not row.nothing_to_change


async def _select(work: RunWork, rows: Sequence[Row]) -> Made:
    made = [_selected(work, row) for row in rows]
    if address := _plugin(work):
        made = await _measured(work, address, made)
    return Made(made)


def _selected(work: RunWork, row: Row) -> Row:
    if row.failure is not None or not row.refinements:
        return row
    if row.nothing_to_change:
        return replace(row, weights=(1.0,), chosen_index=0)
    scores = [score.score for score in row.scores]
    return replace(row, weights=weights(scores, work.spec.select), chosen_index=choose(scores))


def _plugin(work: RunWork) -> str:
    return "" if work.spec.evaluate.disabled else work.spec.evaluate.plugin_address


async def _measured(work: RunWork, address: str, rows: list[Row]) -> list[Row]:
    """Rows with the plugin's score of every refinement, which tells what selection is worth."""
    items = [
        Item(row.item_id, row.context, output=text)
        for row in rows
        if row.failure is None and not row.nothing_to_change
        for text in row.refinements
    ]
    scores: list[float] = []
    for part in calls_of(items):
        scores.extend(await work.patiently("plugin", partial(work.peers.plugin.score_outputs, address, part)))
    given = iter(scores)
    return [
        replace(row, exact=tuple(next(given) for _ in row.refinements))
        if row.failure is None and not row.nothing_to_change
        else row
        for row in rows
    ]


def _measure(rows: Sequence[Row]) -> Metrics:
    """What selection is worth: the chosen refinement's score beside that of a random one."""
    metrics = Metrics()
    measured = [row for row in rows if row.exact]
    metrics.add("chosen_exact", (row.exact[row.chosen_index] for row in measured))
    metrics.add("random_exact", (sum(row.exact) / len(row.exact) for row in measured))
    metrics.add("score_spread", (_spread(row.scores) for row in rows if row.scores))
    return metrics


def _spread(scores: Sequence[Score]) -> float:
    """Standard deviation over judges, mean over refinements."""
    return sum(score.spread for score in scores) / len(scores)
