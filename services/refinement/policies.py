"""The use cases of policy versions: load, get, list, unload; and what is restored after a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from ilf_common.errors import (
    FailedPreconditionError,
    IlfError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from services.refinement.ledger import PolicyLedger
from services.refinement.models import (
    Checkpoint,
    LoadRequest,
    PolicyKind,
    PolicyRecords,
    PolicyState,
    PolicyVersion,
    PolicyView,
)
from services.refinement.ports import CheckpointStore, Clock, Metrics, SourceReader
from services.refinement.rollout import Rollout, can_exchange, kind_of
from services.refinement.serving import ServedModel, ServedModels
from services.refinement.validation import check_load, check_names

log = logging.getLogger("ilf.refinement.policies")

ResultT = TypeVar("ResultT")
_ENGINE_RETRY_SECONDS = 5.0


class PolicyService:
    """Holds the versions of the policy. Changes happen one after the other.

    A change that has begun is finished even when its caller gives up, so that a repeat finds it done.

    Args:
        models: What is served.
        rollout: Loads and unloads.
        checkpoints: Finds checkpoints by URI.
        sources: Looks at the sources of configured models.
        ledger: Keeps versions and aliases over restarts.
        metrics: Told which models are gone.
        clock: The time of day.
        max_engines: Most engines at once, those of configured models included.
    """

    def __init__(
        self,
        models: ServedModels,
        rollout: Rollout,
        checkpoints: CheckpointStore,
        sources: SourceReader,
        ledger: PolicyLedger,
        metrics: Metrics,
        clock: Clock,
        *,
        max_engines: int,
    ) -> None:
        self._models = models
        self._rollout = rollout
        self._checkpoints = checkpoints
        self._sources = sources
        self._ledger = ledger
        self._metrics = metrics
        self._clock = clock
        self._max_engines = max_engines
        self._background: set[asyncio.Task[Any]] = set()
        models.on_wake(self._wake)

    async def start(self, configured: Mapping[str, str]) -> None:
        """Starts the configured models and restores what was loaded before the last stop.

        Args:
            configured: Source (local directory or hub id) by model name.
        """
        for name, source in configured.items():
            digest = await self._sources.digest(source)
            version = PolicyVersion(name, PolicyKind.CHECKPOINT, source, digest, self._clock())
            self._models.put(await self._rollout.stage_source(version))
            log.info("model serves", extra={"model": name, "digest": digest})
        records = self._ledger.load()
        for alias in records.aliases:
            self._models.set_alias(alias)
        # All are known from here on, so that nothing is lost when the records are written before the last is restored.
        for version in records.versions:
            self._models.rest(version, PolicyState.PARKED)
        for version in self._in_order_of_need(records):
            await self._restore(version)

    async def stop(self) -> None:
        """Ends the work in the background and stops all engines."""
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await asyncio.gather(
            *(model.engine.stop() for model in self._models.everything if model.is_whole), return_exceptions=True
        )

    async def check_health(self) -> None:
        """Raises `UnavailableError` when an engine is dead."""
        for model in self._models:
            await model.engine.check_health()

    async def load(self, request: LoadRequest) -> PolicyView:
        """Loads a version, verifies it, and only then moves the traffic of its name to it.

        Whatever fails, the version that served before serves on. Loading again what serves already answers it.

        Raises:
            InvalidArgumentError: Wrong fields, or reason URI_OUTSIDE_STORE.
            NotFoundError: reason CHECKPOINT_NOT_FOUND, or MODEL_NOT_FOUND for the base of an adapter.
            FailedPreconditionError: reason CHECKPOINT_BROKEN, CHECKPOINT_UNSUPPORTED, POLICY_CONFLICT, POLICY_IN_USE.
            ResourceExhaustedError: reason ENGINE_LIMIT.
        """
        check_load(request)
        return await self._finish_anyway(self._load(request))

    def get(self, name: str) -> PolicyView:
        """A version by its name or alias.

        Raises:
            NotFoundError: reason MODEL_NOT_FOUND.
        """
        check_names(name=name)
        return self._models.view(name)

    def list_all(self) -> list[PolicyView]:
        """All versions, the configured models among them."""
        return self._models.views()

    async def unload(self, name: str, request_id: str) -> None:
        """Takes a version out of service and frees it once its calls have ended; unknown names are gone already.

        Raises:
            FailedPreconditionError: reason POLICY_IN_USE.
        """
        check_names(request_id, name=name)
        await self._finish_anyway(self._unload(name))

    async def _load(self, request: LoadRequest) -> PolicyView:
        async with self._ledger.changing:
            self._check_free(request.name)
            checkpoint = await self._checkpoints.open(request.uri)
            current = self._models.get(request.name)
            if current is not None and current.policy.digest == checkpoint.digest:
                return self._models.view(request.name)
            self._check_replaceable(request, checkpoint)
            version = PolicyVersion(
                request.name, kind_of(checkpoint), checkpoint.uri, checkpoint.digest, self._clock(), request.base_model
            )
            await self._serve(version, checkpoint)
            return self._models.view(request.name)

    async def _serve(self, version: PolicyVersion, checkpoint: Checkpoint) -> None:
        """Stages a version and moves the traffic of its name; on failure everything is as before."""
        before = self._models.resting_view(version.name)
        if before is None or before.state is not PolicyState.PARKED:
            self._models.rest(version, PolicyState.LOADING)
        try:
            current = self._models.get(version.name)
            if current is not None and can_exchange(current, checkpoint):
                await self._exchange(current, version, checkpoint)
                return
            staged = await self._stage(version, checkpoint)
            try:
                self._ledger.save(staged.policy)
            except BaseException:
                await self._rollout.retire(staged)
                raise
            old = self._models.put(staged)
        finally:
            self._models.stop_loading(version.name, before)
        log.info("policy serves", extra={"policy": version.name, "digest": version.digest})
        if old is not None:
            self._retire_later(old)

    async def _stage(self, version: PolicyVersion, checkpoint: Checkpoint) -> ServedModel:
        if checkpoint.adapter is None:
            await self._make_room()
            return await self._rollout.stage_checkpoint(replace(version, base_model=""), checkpoint)
        if not version.base_model:
            raise InvalidArgumentError.of("base_model", "an adapter needs the served model that it was trained on")
        await self._unpark(self._models.resolve(version.base_model))
        base = self._models.find(version.base_model)
        version = replace(version, base_model=base.policy.name)
        return await self._rollout.stage_adapter(version, checkpoint, base)

    async def _exchange(self, current: ServedModel, version: PolicyVersion, checkpoint: Checkpoint) -> None:
        """New calls wait while the engine's weights change hands, so that none fails."""
        current.opened.clear()
        try:
            staged = await self._rollout.exchange(current, replace(version, base_model=""), checkpoint)
            try:
                self._ledger.save(staged.policy)
            except BaseException:
                await self._rollout.put_back(current)
                raise
            self._models.put(staged)
            self._models.forget(current)
        finally:
            current.opened.set()
        log.info("policy exchanged in place", extra={"policy": version.name, "digest": version.digest})

    async def _unload(self, name: str) -> None:
        async with self._ledger.changing:
            model = self._models.get(name)
            self._check_unused(name, model)
            if not self._models.knows(name):
                return
            self._models.remove(name)
            self._ledger.save()
        if model is not None:
            await self._retire(model)
        log.info("policy unloaded", extra={"policy": name})

    async def _make_room(self) -> None:
        """Parks versions that were not used for the longest time, until one more engine may start.

        Raises:
            ResourceExhaustedError: reason ENGINE_LIMIT; all engines are needed.
        """
        while self._models.engines >= self._max_engines:
            idle = [model for model in self._models if self._may_park(model)]
            if not idle:
                raise ResourceExhaustedError(
                    f"All {self._max_engines} engines are in use (max_engines); unload a version that is no longer "
                    "needed, or raise the limit.",
                    reason="ENGINE_LIMIT",
                    metadata={"limit": str(self._max_engines)},
                    retry_after=_ENGINE_RETRY_SECONDS,
                )
            parked = min(idle, key=lambda model: model.last_use)
            self._models.remove(parked.policy.name)
            self._models.rest(parked.policy, PolicyState.PARKED)
            await self._retire(parked)
            log.info("policy parked", extra={"policy": parked.policy.name})

    def _may_park(self, model: ServedModel) -> bool:
        name = model.policy.name
        needed = model.is_configured or self._models.aliases_of(name) or self._models.dependents(name)
        return model.is_whole and not model.running and not needed

    async def _wake(self, name: str) -> None:
        """Loads a parked version for a call that names it."""
        await self._finish_anyway(self._load_parked(name))

    async def _load_parked(self, name: str) -> None:
        async with self._ledger.changing:
            await self._unpark(name)

    async def _unpark(self, name: str) -> None:
        view = self._models.resting_view(name)
        if view is not None and view.state is PolicyState.PARKED:
            checkpoint = await self._checkpoints.open(view.policy.uri)
            _check_same(view.policy, checkpoint)
            await self._serve(view.policy, checkpoint)

    async def _restore(self, version: PolicyVersion) -> None:
        """Loads a version again at start; one that fails is kept with its reason, and the others go on.

        Whole checkpoints beyond the limit of engines stay parked.
        """
        if version.kind is PolicyKind.CHECKPOINT and self._models.engines >= self._max_engines:
            return
        try:
            checkpoint = await self._checkpoints.open(version.uri)
            _check_same(version, checkpoint)
            self._models.put(await self._stage(version, checkpoint))
        except IlfError as error:
            log.error("policy not restored: %s", error.message, extra={"policy": version.name, "reason": error.reason})
            self._models.rest(version, PolicyState.FAILED, failure=error.message)

    def _in_order_of_need(self, records: PolicyRecords) -> list[PolicyVersion]:
        """Checkpoints before the adapters that sit on them; those that must not be parked first, then the newest."""
        bases = {version.base_model for version in records.versions if version.base_model}
        promoted = {alias.policy for alias in records.aliases}

        def need(version: PolicyVersion) -> tuple[bool, bool, float]:
            is_needed = version.name in bases or version.name in promoted
            return version.kind is PolicyKind.ADAPTER, not is_needed, -version.load_time.timestamp()

        return sorted(records.versions, key=need)

    def _check_free(self, name: str) -> None:
        """A version's name belongs neither to a configured model nor to an alias."""
        current = self._models.get(name)
        if current is not None and current.is_configured:
            raise _conflict(f"{name!r} is a model of the server's settings; load the version under another name.", name)
        if self._models.alias(name) is not None:
            raise _conflict(f"{name!r} is an alias; load the version under another name and promote it.", name)

    def _check_replaceable(self, request: LoadRequest, checkpoint: Checkpoint) -> None:
        name = request.name
        if not self._models.is_usable(name):
            return
        digest = self._models.view(name).policy.digest
        if digest != checkpoint.digest and not request.replace:
            raise _conflict(
                f"{name!r} already serves another checkpoint (digest {digest[:12]}); "
                "set replace to swap it, or choose another name.",
                name,
            )
        if adapters := self._models.dependents(name):
            raise _in_use(f"{name!r} cannot be replaced while adapters sit on it: {', '.join(adapters)}.", name)

    def _check_unused(self, name: str, model: ServedModel | None) -> None:
        if model is not None and model.is_configured:
            raise _in_use(f"{name!r} is a model of the server's settings and stays loaded.", name)
        if aliases := self._models.aliases_of(name):
            raise _in_use(f"Aliases point at {name!r}: {', '.join(aliases)}. Promote another version first.", name)
        if adapters := self._models.dependents(name):
            raise _in_use(f"Adapters sit on {name!r}: {', '.join(adapters)}. Unload them first.", name)

    async def _retire(self, model: ServedModel) -> None:
        await self._rollout.retire(model)
        self._models.forget(model)
        if not self._models.knows(model.policy.name):
            self._metrics.forget(model.policy.name)

    def _retire_later(self, model: ServedModel) -> None:
        """The version that served before drains in the background; nobody has to wait for its calls."""
        self._keep(asyncio.create_task(self._retire(model)))

    async def _finish_anyway(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        return await asyncio.shield(self._keep(asyncio.create_task(work)))

    def _keep(self, task: asyncio.Task[ResultT]) -> asyncio.Task[ResultT]:
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


def _check_same(version: PolicyVersion, checkpoint: Checkpoint) -> None:
    if checkpoint.digest != version.digest:
        raise FailedPreconditionError(
            f"{version.uri} holds another checkpoint now than when {version.name!r} was loaded.",
            reason="CHECKPOINT_BROKEN",
            metadata={"uri": version.uri},
        )


def _conflict(message: str, name: str) -> FailedPreconditionError:
    return FailedPreconditionError(message, reason="POLICY_CONFLICT", metadata={"resource": name})


def _in_use(message: str, name: str) -> FailedPreconditionError:
    return FailedPreconditionError(message, reason="POLICY_IN_USE", metadata={"resource": name})
