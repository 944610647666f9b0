"""Runs of the loop and jobs that are found again after a crash."""

from __future__ import annotations

from ilf_client.experiments.lab import Lab, Step
from ilf_client.models.jobs import FinetuneJob, FinetuneSpec, JobState
from ilf_client.models.runs import Run, RunState
from ilf_client.models.specs import RunSpec
from ilf_common.errors import FailedPreconditionError, NotFoundError

_ATTEMPTS = 3


async def finished_run(lab: Lab, step: Step, spec: RunSpec) -> Run:
    """The step's run, created or found again, when it has ended; one that failed before is resumed once.

    Raises:
        FailedPreconditionError: reason RUN_FAILED, or the run's own.
    """
    runs = lab.client.runs
    try:
        run = await runs.get(lab.name(step))
    except NotFoundError:
        run = await runs.create(spec, run_id=lab.name(step), request_id=lab.request_id(step))
    if run.state in (RunState.FAILED, RunState.CANCELLED):
        run = await runs.resume(run.name)
    async for state in runs.watch(run.name):
        run = state
    if run.state is not RunState.SUCCEEDED:
        raise FailedPreconditionError(
            f"{step.title}: {run.name} {run.state.value}. {run.error.message if run.error else ''}",
            reason=run.error.reason if run.error else "RUN_FAILED",
            metadata={"run": run.name},
        )
    return run


async def finished_job(lab: Lab, step: Step, spec: FinetuneSpec) -> FinetuneJob:
    """The step's finetune job, created or found again, when it has ended; a failed one is followed by another.

    Raises:
        FailedPreconditionError: reason JOB_FAILED, or the job's own.
    """
    for attempt in range(_ATTEMPTS):
        job = await lab.client.jobs.create(spec, request_id=lab.request_id(step, attempt))
        if not job.state.is_final:
            return await succeeded(lab, step, job.name)
        if job.state is JobState.SUCCEEDED:
            return job
    raise _failed(step, job)


async def succeeded(lab: Lab, step: Step, name: str) -> FinetuneJob:
    """Waits for a job.

    Raises:
        FailedPreconditionError: It failed.
    """
    job = await lab.client.jobs.get(name)
    async for state in lab.client.jobs.watch(name):
        job = state
    if job.state is not JobState.SUCCEEDED:
        raise _failed(step, job)
    return job


def _failed(step: Step, job: FinetuneJob) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"{step.title}: {job.name} {job.state.value}. {job.error.message if job.error else ''}",
        reason=job.error.reason if job.error else "JOB_FAILED",
        metadata={"job": job.name},
    )
