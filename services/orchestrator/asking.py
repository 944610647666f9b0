"""The questions about a shard's samples: pairs to compare, refinements to review."""

from __future__ import annotations

from collections.abc import Sequence

from services.orchestrator.models import RunSpec
from services.orchestrator.rows import Row
from services.orchestrator.seeds import item_seed
from services.orchestrator.shards import ShardId
from services.orchestrator.tasks import Task, TaskKind

_DEFAULT_LEASE = 15 * 60.0


def feedback_tasks(spec: RunSpec, shard: ShardId, rows: Sequence[Row]) -> list[Task]:
    """What is wrong with each initial output, asked of as many people as the run wants."""
    tasks = []
    for position, row in enumerate(rows):
        if row.failure is None:
            for slot in range(spec.feedback.annotators_per_item):
                tasks.append(_task(TaskKind.FEEDBACK, spec, shard, position, slot, row, row.initial_output or ""))
    return tasks


def comparison_tasks(spec: RunSpec, shard: ShardId, rows: Sequence[Row]) -> list[Task]:
    """One pair an item: the chosen refinement and another one, each time in an order that the run's seed decides."""
    tasks = []
    for position, row in enumerate(rows):
        pair = _pair(spec, shard, row)
        if pair is None:
            continue
        for slot in range(spec.people.comparisons_per_pair):
            first, second = pair if _draw(spec, shard, row, f"compare-{slot}") % 2 else pair[::-1]
            texts = row.refinements[first], row.refinements[second]
            tasks.append(
                _task(TaskKind.COMPARISON, spec, shard, position, slot, row, *texts, candidates=(first, second))
            )
    return tasks


def review_tasks(spec: RunSpec, shard: ShardId, rows: Sequence[Row]) -> list[Task]:
    """Whether the chosen refinement incorporates the feedback, for items that were refined."""
    tasks = []
    for position, row in enumerate(rows):
        if row.failure is not None or row.nothing_to_change or not row.feedback or not row.refinements:
            continue
        chosen = _chosen(row)
        texts = row.initial_output or "", row.refinements[chosen], row.feedback
        for slot in range(spec.people.reviews_per_item):
            tasks.append(_task(TaskKind.REVIEW, spec, shard, position, slot, row, *texts, candidates=(-1, chosen)))
    return tasks


def _pair(spec: RunSpec, shard: ShardId, row: Row) -> tuple[int, int] | None:
    """The chosen refinement and another one with another text, by index; None where all are the same."""
    if row.failure is not None or not row.refinements:
        return None
    chosen = _chosen(row)
    texts = dict.fromkeys(text for text in row.refinements if text != row.refinements[chosen])
    if not texts:
        return None
    other = list(texts)[_draw(spec, shard, row, "compare") % len(texts)]
    return chosen, row.refinements.index(other)


def _chosen(row: Row) -> int:
    """The refinement that was chosen; the best one where a preview has chosen none."""
    if row.chosen_index >= 0 or not row.scores:
        return max(row.chosen_index, 0)
    return max(range(len(row.scores)), key=lambda index: row.scores[index].score)


def _draw(spec: RunSpec, shard: ShardId, row: Row, purpose: str) -> int:
    return item_seed(spec.seed, shard.iteration, purpose, row.item_id)


def _task(
    kind: TaskKind,
    spec: RunSpec,
    shard: ShardId,
    position: int,
    slot: int,
    row: Row,
    text_a: str,
    text_b: str = "",
    feedback: str = "",
    *,
    candidates: tuple[int, int] = (-1, -1),
) -> Task:
    group = f"{shard.iteration:03d}-{shard.index:05d}-{position:04d}"
    return Task(
        kind=kind,
        run_id=shard.run_id,
        id=f"{group}-{slot:02d}",
        group=group,
        iteration=shard.iteration,
        shard=shard.index,
        item_id=row.item_id,
        context=_storable(row.context),
        text_a=_storable(text_a),
        text_b=_storable(text_b),
        feedback=_storable(feedback),
        candidate_a=candidates[0],
        candidate_b=candidates[1],
        lease_seconds=spec.feedback.lease or _DEFAULT_LEASE,
    )


def _storable(text: str) -> str:
    """The text as a database keeps it: PostgreSQL knows no NUL."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
