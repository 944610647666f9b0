"""The loop without a workflow engine and without a network."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from services.orchestrator.loop import run_loop
from services.orchestrator.models import EvaluateStage, RefineStage, RunSpec, Sampling
from services.orchestrator.resolve import resolve
from services.orchestrator.run import Plan, Run, RunState
from services.orchestrator.stages.improve import improve
from tests.fakes.orchestrator_outside import Outside, RememberedSteps, outside
from tests.unit.services.orchestrator.test_resolve import GOOD

ROUND = ["generate", "feedback", "refine-rank-select", "finetune", "load"]


def write(folder: Path, name: str, count: int) -> None:
    path = folder / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ({"id": f"{name[:2]}{n}", "context": f"{name} context {n}"} for n in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


async def prepared(folder: Path, **changes: object) -> Outside:
    write(folder, "train.jsonl", 20)
    write(folder, "test.jsonl", 6)
    spec: RunSpec = resolve(replace(GOOD, shard_rows=4, **changes))  # type: ignore[arg-type]
    run = Run("a", spec, RunState.RUNNING, datetime(2026, 1, 1, tzinfo=UTC))
    opened = outside(folder, run)
    report = await opened.work.datasets.inspect(spec)
    await opened.work.journal.change(lambda before: replace(before, plan=Plan(boundaries=report.boundaries)))
    return opened


async def test_stages_come_in_order_and_evaluation_first_and_last(tmp_path: Path) -> None:
    steps = RememberedSteps()
    opened = await prepared(tmp_path, iterations=2)
    await run_loop(opened.work, steps)
    rounds = [f"it-{number}/{stage}" for number in (1, 2) for stage in [*ROUND, "evaluate"]]
    assert steps.names == ["pins", "inputs", "it-0/evaluate", *rounds]
    assert opened.work.run.state is RunState.SUCCEEDED
    assert opened.refinement.loaded == ["a/it-1", "a/it-2"]


async def test_a_preview_ends_before_anything_is_spent(tmp_path: Path) -> None:
    steps = RememberedSteps()
    opened = await prepared(tmp_path, preview_rows=3)
    await run_loop(opened.work, steps)
    assert steps.names == ["pins", "inputs", *(f"it-1/{stage}" for stage in ROUND[:3])]
    assert not opened.finetune.orders
    assert opened.work.run.stage(1, "rank").progress.done == 3


async def test_without_evaluation_nothing_is_evaluated(tmp_path: Path) -> None:
    steps = RememberedSteps()
    opened = await prepared(tmp_path, evaluate=EvaluateStage(disabled=True))
    await run_loop(opened.work, steps)
    assert steps.names == ["pins", "inputs", *(f"it-1/{stage}" for stage in ROUND)]


async def test_a_second_pass_over_finished_shards_calls_nobody(tmp_path: Path) -> None:
    opened = await prepared(tmp_path)
    await run_loop(opened.work, RememberedSteps())
    opened.refinement.order.clear()
    opened.ranking.calls.clear()
    await improve(opened.work, 1, 20)
    assert opened.refinement.order == [] and opened.ranking.calls == []
    assert opened.work.run.stage(1, "select").progress.done == 20


async def test_ranking_begins_before_refining_has_ended_and_in_fixed_calls(tmp_path: Path) -> None:
    opened = await prepared(tmp_path, refine=RefineStage("refiner", Sampling(n=2)))
    work = replace(opened.work, limits=replace(opened.work.limits, shards_in_flight=1, rank_rows=2))
    order = opened.refinement.order
    rank = opened.ranking.rank

    async def noted(ranker: object, items: object) -> object:
        order.append("rank")
        async for outcomes in rank(ranker, items):  # type: ignore[arg-type]
            yield outcomes

    opened.ranking.rank = noted  # type: ignore[method-assign, assignment]
    await run_loop(work, RememberedSteps())
    refining = [entry.split()[0] for entry in order if entry != "generate"]
    first_shard = refining[:6]
    assert first_shard.count("refine") == 4
    assert first_shard.index("rank") < 5
    assert all(len(call) == 2 for call in opened.ranking.calls)
