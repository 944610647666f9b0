"""finetune: the training set of an iteration, its job, and the new policy version in service."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

from ilf_common.errors import FailedPreconditionError, UnavailableError
from services.orchestrator.calls import FinetuneOrder, JobStatus
from services.orchestrator.journal import wait_for
from services.orchestrator.models import RunSpec, Schedule, Target
from services.orchestrator.ports import TrainingRow
from services.orchestrator.rows import Row
from services.orchestrator.shards import shard_count
from services.orchestrator.work import RunWork

log = logging.getLogger("ilf.orchestrator")
STAGE = "finetune"
_LOOK_AGAIN_SECONDS = 1.0
_DEAD_JOBS = frozenset({"FAILED", "CANCELLED"})


def policy_name(run_id: str, spec: RunSpec, iteration: int) -> str:
    """The policy version that an iteration leaves behind; iteration 0 is the policy that the run began with."""
    return f"{run_id}/it-{iteration}" if iteration else spec.policy


def merges_adapter(spec: RunSpec) -> bool:
    """Whether an adapter goes into its base before publishing.

    It must where a later round trains on from the checkpoint, and where the base is not the served policy.
    """
    adapter = spec.finetune.hyperparameters.lora is not None
    return adapter and (spec.schedule is Schedule.CONTINUE or bool(spec.base_model))


async def finetune(work: RunWork, iteration: int, rows_of: dict[str, int]) -> None:
    """Publishes the training set, creates the job (or finds it again) and waits until it has succeeded."""
    await work.journal.begin_stage(iteration, STAGE, 0)
    order = await _order(work, iteration, rows_of)
    await _take_gpus(work)
    job = await _job(work, iteration, order)
    await work.journal.change(
        lambda run: run.with_iteration(
            replace(run.iteration(iteration), finetune_job=job, checkpoint_uri=order.output_uri)
        )
    )
    await work.patiently("finetune", lambda: _watch(work, iteration, job))
    await work.journal.end_stage(iteration, STAGE)


async def load_policy(work: RunWork, iteration: int) -> None:
    """Puts the iteration's checkpoint into service; the next iteration generates from it."""
    run = work.run
    name = policy_name(run.id, run.spec, iteration)
    adapter = run.spec.finetune.hyperparameters.lora is not None and not merges_adapter(run.spec)
    await work.patiently(
        "refinement",
        lambda: work.peers.refinement.load_policy(
            request_id=_request_id(run.id, iteration, "load", 0),
            name=name,
            uri=work.shards.checkpoint_uri(run.id, iteration),
            base_model=run.spec.policy if adapter else "",
        ),
    )
    await work.journal.change(
        lambda run: replace(run.with_iteration(replace(run.iteration(iteration), policy=name)), policy=name)
    )


def training_rows(spec: RunSpec, iteration: int, rows: list[Row]) -> list[TrainingRow]:
    """The rows that a shard gives to training; bad ones, skipped ones and weights of 0 are left out."""
    made = []
    for row in rows:
        if row.failure is not None:
            continue
        # With reused contexts an item comes back in every round, each time with weights that sum to 1.
        item_id = f"it-{iteration}/{row.item_id}" if spec.reuse_contexts else row.item_id
        for text, weight in _targets(spec.finetune.target, row):
            made.append(TrainingRow(item_id, row.context, text, weight))
    return made


def _targets(target: Target, row: Row) -> list[tuple[str, float]]:
    if target is Target.REFERENCE:
        return [(row.reference, 1.0)] if row.reference else []
    if target is Target.INITIAL_OUTPUT:
        return [(row.initial_output, 1.0)] if row.initial_output else []
    return [(text, weight) for text, weight in zip(row.refinements, row.weights, strict=False) if weight > 0]


async def _order(work: RunWork, iteration: int, rows_of: dict[str, int]) -> FinetuneOrder:
    spec, run_id = work.spec, work.run.id
    continues = spec.schedule is Schedule.CONTINUE
    rounds = [iteration] if continues else list(range(1, iteration + 1))
    sources = [
        work.shard(number, "select", index)
        for number in rounds
        for index in range(shard_count(rows_of[str(number)], spec.shard_rows))
    ]
    uri, count = await work.shards.publish_training_data(
        run_id, iteration, sources, lambda number, rows: training_rows(spec, number, rows)
    )
    if not count:
        raise FailedPreconditionError(
            f"Iteration {iteration} left no row to train on: all items failed, were skipped, or have no target text.",
            reason="NO_TRAINING_ROWS",
        )
    base = (
        work.shards.checkpoint_uri(run_id, iteration - 1) if continues and iteration > 1 else work.run.plan.base_model
    )
    return FinetuneOrder(
        base_model=base,
        dataset_uri=uri,
        output_uri=work.shards.checkpoint_uri(run_id, iteration),
        hyperparameters=replace(spec.finetune.hyperparameters, seed=spec.finetune.hyperparameters.seed or spec.seed),
        template=spec.generate.template,
        merge_adapter=merges_adapter(spec),
    )


async def _take_gpus(work: RunWork) -> None:
    """Waits until serving that nobody needs has left the GPUs that it shares with training, or for long enough."""
    who = object()
    try:
        async with asyncio.timeout(work.limits.hand_over_seconds):
            while True:
                ticket = work.gpus.changed.ticket()
                leaving = work.gpus.leaving()
                if not leaving:
                    return
                work.journal.wait(
                    who, "GPU_HAND_OVER", f"Serving has not left its GPUs to training yet: {', '.join(leaving)}"
                )
                await wait_for(ticket, _LOOK_AGAIN_SECONDS)
    except TimeoutError:
        log.warning("serving kept its GPUs; the job is created anyway", extra={"run": work.run.id})
    finally:
        work.journal.go_on(who)


async def _job(work: RunWork, iteration: int, order: FinetuneOrder) -> str:
    """The job of an earlier attempt where it is still good, else that of this attempt."""
    known = work.run.iteration(iteration).finetune_job
    if known:
        status = await work.patiently("finetune", lambda: _first(work.peers.finetune.watch(known)))
        if status.state not in _DEAD_JOBS:
            return known
    request_id = _request_id(work.run.id, iteration, STAGE, work.run.attempt)
    creation = asyncio.create_task(work.patiently("finetune", lambda: work.peers.finetune.create(request_id, order)))
    try:
        return await asyncio.shield(creation)
    except asyncio.CancelledError:
        # The job may be there already: whoever cancels the run has to know its name.
        if not creation.done():
            await asyncio.wait({creation}, timeout=5.0)
        if creation.done() and not creation.cancelled() and creation.exception() is None:
            job = creation.result()
            await work.journal.change(
                lambda run: run.with_iteration(replace(run.iteration(iteration), finetune_job=job))
            )
        creation.cancel()
        raise


async def _watch(work: RunWork, iteration: int, job: str) -> None:
    who = object()
    try:
        async for status in work.peers.finetune.watch(job):
            if status.state == "SUCCEEDED":
                await work.journal.set_progress(iteration, STAGE, status.max_steps, status.max_steps)
                return
            if status.state in _DEAD_JOBS:
                raise _ended(iteration, status)
            if status.state == "PENDING":
                work.journal.wait(
                    who, "FINETUNE_PENDING", f"{job} has not begun: {status.message or 'no reason given'}"
                )
            else:
                work.journal.go_on(who)
            await work.journal.set_progress(iteration, STAGE, status.step, status.max_steps)
    finally:
        work.journal.go_on(who)
    raise UnavailableError(f"stopped telling about {job} before it ended")


def _ended(iteration: int, status: JobStatus) -> FailedPreconditionError:
    """The error of a run whose job failed; the job's reason stays the reason."""
    cause = status.error
    return FailedPreconditionError(
        f"Iteration {iteration}: finetune job {status.name} {status.state.lower()}"
        + (f": {cause.message}" if cause else "."),
        reason=cause.reason if cause else f"FINETUNE_{status.state}",
        metadata={"job": status.name},
    )


async def _first(statuses: AsyncIterator[JobStatus]) -> JobStatus:
    async for status in statuses:
        return status
    raise UnavailableError("said nothing about the job")


def _request_id(run_id: str, iteration: int, what: str, attempt: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"ilf/runs/{run_id}/it-{iteration}/{what}/{attempt}"))
