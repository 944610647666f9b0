"""The ILF loop: which stages come when. What a stage does is in `stages`; how it survives a crash, in `Steps`."""

from __future__ import annotations

import logging
from dataclasses import replace

from services.orchestrator.ports import Steps
from services.orchestrator.run import RunState
from services.orchestrator.stages.evaluate import evaluate
from services.orchestrator.stages.feedback import give_feedback
from services.orchestrator.stages.generate import generate
from services.orchestrator.stages.improve import improve
from services.orchestrator.stages.inputs import EVALUATION, write_inputs
from services.orchestrator.stages.pins import pin
from services.orchestrator.stages.train import finetune, load_policy, policy_name
from services.orchestrator.work import RunWork

log = logging.getLogger("ilf.orchestrator")


async def run_loop(work: RunWork, steps: Steps) -> None:
    """Takes a run from its dataset to its last policy.

    The steps are few and coarse, because shards, jobs and policy versions are found again by themselves: a step that
    is repeated continues where it stopped.
    """
    spec, run_id = work.spec, work.run.id
    await steps.run("pins", lambda: pin(work))
    rows_of = await steps.run("inputs", lambda: write_inputs(work))
    evaluates = not spec.evaluate.disabled and not spec.preview_rows

    async def measure(iteration: int) -> None:
        policy = policy_name(run_id, spec, iteration)
        rows = rows_of[str(EVALUATION)]
        await steps.run(f"it-{iteration}/evaluate", lambda: evaluate(work, iteration, rows, policy))

    if evaluates:
        await measure(EVALUATION)
    for iteration in range(1, 1 + (1 if spec.preview_rows else spec.iterations)):
        await _improve_outputs(work, steps, iteration, rows_of[str(iteration)])
        if spec.preview_rows:
            break
        await _train(work, steps, iteration, rows_of)
        if evaluates:
            await measure(iteration)
    await work.journal.change(
        lambda run: replace(run.moved_to(RunState.SUCCEEDED), waiting=None, end_time=work.clock.now())
    )
    log.info("run ended", extra={"run": run_id, "state": RunState.SUCCEEDED.value})


async def _improve_outputs(work: RunWork, steps: Steps, iteration: int, rows: int) -> None:
    policy = policy_name(work.run.id, work.spec, iteration - 1)
    await steps.run(f"it-{iteration}/generate", lambda: generate(work, iteration, rows, policy))
    await steps.run(f"it-{iteration}/feedback", lambda: give_feedback(work, iteration, rows))
    await steps.run(f"it-{iteration}/refine-rank-select", lambda: improve(work, iteration, rows))


async def _train(work: RunWork, steps: Steps, iteration: int, rows_of: dict[str, int]) -> None:
    await steps.run(f"it-{iteration}/finetune", lambda: finetune(work, iteration, rows_of))
    await steps.run(f"it-{iteration}/load", lambda: load_policy(work, iteration))
