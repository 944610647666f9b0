"""Runs: created, watched, cancelled, resumed, and taken through the loop."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace

from ilf_common.errors import (
    FailedPreconditionError,
    IlfError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    RetryableError,
    UnavailableError,
)
from services.orchestrator.codec import digest_of, to_plain
from services.orchestrator.journal import Journal, Signal, wait_for
from services.orchestrator.loop import run_loop
from services.orchestrator.models import RunSpec
from services.orchestrator.pools.journey import Journey, journey
from services.orchestrator.pools.ports import GpuOrder
from services.orchestrator.ports import Clock, Datasets, RunStore, ShardStore, Steps, TaskStore, Workflows
from services.orchestrator.resolve import RUN_ID, resolve
from services.orchestrator.run import ErrorRecord, Plan, Run, RunState, StageState
from services.orchestrator.stages.pins import frozen_models
from services.orchestrator.work import Limits, Peers, RunWork

log = logging.getLogger("ilf.orchestrator")
_WATCH_PAUSE = 0.1
_QUIET_SECONDS = 30.0


@dataclass(frozen=True)
class Outside:
    """Everything that runs need from outside."""

    store: RunStore
    tasks: TaskStore
    shards: ShardStore
    datasets: Datasets
    peers: Peers
    clock: Clock


class RunService:
    """The use cases of runs."""

    def __init__(self, outside: Outside, limits: Limits, task_signal: Signal) -> None:
        self._outside = outside
        self._limits = limits
        self._task_signal = task_signal
        self._journals: dict[str, Journal] = {}
        self._working: dict[str, asyncio.Task[object]] = {}
        self._idle: dict[str, asyncio.Event] = {}
        self._cancelled: set[str] = set()
        self._draining = False
        self._workflows: Workflows | None = None
        self._gpus: GpuOrder | None = None

    def attach(self, workflows: Workflows, gpus: GpuOrder) -> None:
        """Sets the workflow engine and the order of GPUs, which themselves need this service's runs."""
        self._workflows = workflows
        self._gpus = gpus

    def live_runs(self) -> list[Run]:
        """The runs that have not ended, as they stand."""
        return [one.run for one in list(self._journals.values()) if not one.run.ended]

    def journeys(self) -> list[Journey]:
        """What is left of them."""
        now = self._outside.clock.now()
        return [journey(one.run, one.meter, now) for one in self._journals.values() if not one.run.ended]

    async def create(self, request_id: str, run_id: str, spec: RunSpec, *, validate_only: bool) -> Run:
        """Checks a spec and its dataset, then starts the run; a repeat answers the first one.

        Raises:
            IlfError: As `resolve` and `Datasets.inspect`; NotFoundError for models that are not there;
                AlreadyExistsError for a run id or request id that is taken by something else.
        """
        resolved = resolve(spec)
        chosen = run_id or _run_id(request_id or str(uuid.uuid4()))
        if not RUN_ID.fullmatch(chosen):
            raise InvalidArgumentError.of(
                "run_id", f"must be 1 to 63 lower-case letters, digits and dashes, is {run_id!r}"
            )
        run = Run(
            id=chosen,
            spec=resolved,
            state=RunState.PENDING,
            create_time=self._outside.clock.now(),
            request_id=request_id or str(uuid.uuid4()),
            spec_digest=_results_digest(resolved),
            policy=resolved.policy,
        )
        request_digest = digest_of([run_id, resolved])
        if request_id and not validate_only:
            first = await self._outside.store.by_request(request_id, request_digest)
            if first is not None:
                return first
        report = await self._outside.datasets.inspect(resolved)
        await self._check_models(resolved)
        run = replace(run, plan=Plan(report.train_rows, report.test_rows, report.boundaries))
        if validate_only:
            return run
        stored = await self._outside.store.create(run, request_digest)
        if stored.create_time == run.create_time:
            await self._start(stored)
        return stored

    async def _check_models(self, spec: RunSpec) -> None:
        """Refuses models that are not there; a service that does not answer now is waited for later, by the run."""
        peers = self._outside.peers
        with suppress(RetryableError):
            for model in (spec.policy, *frozen_models(spec).values()):
                await peers.refinement.model(model)
        with suppress(RetryableError):
            if models := (*spec.rank.reward_models, *spec.evaluate.best_of_n.reward_models):
                await peers.reward.models_digest(models)

    async def _start(self, run: Run) -> None:
        if self._workflows is None:
            raise RuntimeError("no workflow engine is attached")
        self._journals[run.id] = Journal(run, self._outside.store, self._outside.clock)
        await self._workflows.start(workflow_id(run), run.id)

    async def take_up(self) -> None:
        """After a start of the process: makes sure that every run that has not ended has a workflow at work."""
        if self._workflows is None:
            raise RuntimeError("no workflow engine is attached")
        for run in await self._outside.store.all_runs():
            if run.ended:
                continue
            if await self._workflows.continues(workflow_id(run)):
                # The engine begins in its own time; whoever watches the run until then has to hear of it.
                self._journals.setdefault(run.id, Journal(run, self._outside.store, self._outside.clock))
            else:
                await self._fail_lost(run)

    async def _fail_lost(self, run: Run) -> None:
        """A run whose workflow the engine will not continue: begun now if it never was, failed otherwise."""
        if run.state is RunState.PENDING and run.generation == 0:
            await self._start(run)
            return
        error = FailedPreconditionError(
            f"{run.name} was begun by another version or executor of the orchestrator, which this one does not "
            "continue by itself. Resume the run: finished shards are reused.",
            reason="WORKFLOW_LOST",
        )
        journal = self._journals.setdefault(run.id, Journal(run, self._outside.store, self._outside.clock))
        await self._end(journal, RunState.FAILED, error)

    async def get(self, run_id: str) -> Run:
        """A run as it stands.

        Raises:
            NotFoundError: RUN_NOT_FOUND.
        """
        live = self._journals.get(run_id)
        found = live.run if live else await self._outside.store.get(run_id)
        if found is None:
            raise NotFoundError(
                f"There is no run {run_id!r}.",
                resource_type="run",
                resource_name=f"runs/{run_id}",
                reason="RUN_NOT_FOUND",
            )
        return found

    async def all_runs(self) -> list[Run]:
        """All runs."""
        stored = await self._outside.store.all_runs()
        return [self._journals[run.id].run if run.id in self._journals else run for run in stored]

    async def newest_ids(self) -> list[str]:
        """The ids of all runs, newest first."""
        return await self._outside.store.newest_ids()

    async def watch(self, run_id: str) -> AsyncIterator[Run]:
        """The run now and at each change, until it has ended; changes close together come as one."""
        journal = self._journals.get(run_id)
        if journal is None:
            yield await self.get(run_id)
            return
        while True:
            ticket = journal.changed.ticket()
            run = journal.run
            yield run
            if run.ended:
                return
            if self._draining:
                raise UnavailableError("The orchestrator is going down; watch again when it is back.")
            await wait_for(ticket, _QUIET_SECONDS)
            await asyncio.sleep(_WATCH_PAUSE)

    async def drain(self) -> None:
        """Ends all watches, which would otherwise hold the server up."""
        self._draining = True
        for journal in self._journals.values():
            journal.changed.give()

    async def stop(self) -> None:
        """Leaves all runs as they are, to be taken up by the next process."""
        working = list(self._working.values())
        for task in working:
            task.cancel()
        if working:
            await asyncio.wait(working, timeout=10.0)

    async def cancel(self, run_id: str) -> Run:
        """Stops a run and its finetune job. A run that has ended stays what it is."""
        run = await self.get(run_id)
        if not run.ended:
            self._cancelled.add(run_id)
            if working := self._working.get(run_id):
                working.cancel()
                await self._idle[run_id].wait()
            journal = self._journals.get(run_id)
            if journal is not None and not journal.run.ended:
                await self._end(journal, RunState.CANCELLED, None)
            run = await self.get(run_id)
        if run.state is RunState.CANCELLED:
            await self._cancel_job(run)
        return run

    async def _cancel_job(self, run: Run) -> None:
        for iteration in run.iterations:
            unfinished = run.stage(iteration.index, "finetune").state is not StageState.SUCCEEDED
            if iteration.finetune_job and unfinished:
                await self._outside.peers.finetune.cancel(iteration.finetune_job)

    async def resume(self, request_id: str, run_id: str) -> Run:
        """Continues a failed or cancelled run from its last finished shard; one that is at work is answered as it is.

        Raises:
            FailedPreconditionError: RUN_NOT_RESUMABLE, with the cause.
        """
        run = await self.get(run_id)
        if not run.ended or (request_id and run.resume_request_id == request_id):
            return run
        if run.state is RunState.SUCCEEDED:
            raise _not_resumable(run, "it has succeeded, so nothing is left to do")
        await self._check_pins(run)
        self._cancelled.discard(run_id)
        resumed = replace(
            run.moved_to(RunState.PENDING),
            attempt=run.attempt + 1,
            error=None,
            waiting=None,
            end_time=None,
            resume_request_id=request_id,
        )
        await self._outside.store.save(resumed)
        await self._start(resumed)
        return resumed

    async def _check_pins(self, run: Run) -> None:
        for part, model in frozen_models(run.spec).items():
            try:
                served = await self._outside.peers.refinement.model(model)
            except RetryableError:
                return
            except NotFoundError as error:
                raise _not_resumable(run, f"its {part} {model!r} is not served any more") from error
            if run.plan.pins.get(part, served.digest) != served.digest:
                raise _not_resumable(
                    run,
                    f"its {part} {model!r} is another model now (digest {served.digest[:12]}, was "
                    f"{run.plan.pins[part][:12]}); serve the old one again, or create a new run",
                )

    async def execute(self, run_id: str, steps: Steps) -> None:
        """The body of a run's workflow. Returns only when the run has ended, in whatever way."""
        journal = self._journals.get(run_id)
        if journal is None:
            journal = Journal(await self.get(run_id), self._outside.store, self._outside.clock)
            self._journals[run_id] = journal
        task = asyncio.current_task()
        if journal.run.ended or run_id in self._cancelled or task is None:
            return
        self._working[run_id] = task
        self._idle[run_id] = asyncio.Event()
        try:
            await self._work(journal, steps)
        finally:
            del self._working[run_id]
            self._idle.pop(run_id).set()

    async def _work(self, journal: Journal, steps: Steps) -> None:
        outside = self._outside
        if self._gpus is None:
            raise RuntimeError("no order of GPUs is attached")
        work = RunWork(
            journal,
            outside.peers,
            outside.shards,
            outside.datasets,
            outside.tasks,
            self._task_signal,
            outside.clock,
            self._limits,
            self._gpus,
        )
        run = await journal.change(_begun)
        log.info("run works", extra={"run": run.id, "attempt": run.attempt, "generation": run.generation})
        try:
            await run_loop(work, steps)
        except asyncio.CancelledError:
            if journal.run.id not in self._cancelled:
                # The process is going down: the workflow is taken up again when it is back.
                raise
            await self._end(journal, RunState.CANCELLED, None)
        except IlfError as error:
            await self._end(journal, RunState.FAILED, error)
        except Exception:
            log.exception("run %s failed by a fault of the orchestrator", journal.run.id)
            fault = InternalError("The orchestrator failed; its log says why. The run can be resumed.")
            await self._end(journal, RunState.FAILED, fault)
        self._journals.pop(journal.run.id, None)

    async def _end(self, journal: Journal, state: RunState, error: IlfError | None) -> None:
        now = self._outside.clock.now()

        def change(run: Run) -> Run:
            for iteration in run.iterations:
                for stage in iteration.stages:
                    if stage.state is StageState.RUNNING:
                        run = run.with_stage(iteration.index, replace(stage, state=StageState.FAILED, end_time=now))
            record = ErrorRecord.of(error) if error else None
            return replace(run.moved_to(state), error=record, waiting=None, end_time=now)

        run = await journal.change(change)
        log.info("run ended", extra={"run": run.id, "state": run.state.value, "reason": error.reason if error else ""})
        self._journals.pop(run.id, None)


def workflow_id(run: Run) -> str:
    """Id of the workflow of a run's present attempt."""
    return f"{run.id}.{run.attempt}"


def _begun(run: Run) -> Run:
    state = run if run.state in (RunState.RUNNING, RunState.WAITING) else run.moved_to(RunState.RUNNING)
    return replace(state, state=RunState.RUNNING, waiting=None, generation=run.generation + 1)


def _results_digest(spec: RunSpec) -> str:
    """Digest of all in a spec that determines results."""
    return digest_of({name: value for name, value in to_plain(spec).items() if name != "people"})


def _run_id(request_id: str) -> str:
    return f"run-{hashlib.sha256(request_id.encode()).hexdigest()[:10]}"


def _not_resumable(run: Run, why: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"{run.name} cannot be resumed: {why}.", reason="RUN_NOT_RESUMABLE", metadata={"resource": run.name}
    )
