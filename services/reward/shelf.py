"""The loaded reward models by name: loaded, remembered over restarts, unloaded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from ilf_common.errors import AlreadyExistsError, FailedPreconditionError, IlfError, NotFoundError
from services.reward import validation
from services.reward.batching import ScoringQueue
from services.reward.models import Limits, ModelVersion, StoredModel
from services.reward.ports import CheckpointSource, Clock, ModelMemory, RewardModel, RewardModelLoader

log = logging.getLogger("ilf.reward")


@dataclass(frozen=True)
class Served:
    """A loaded model with the queue in front of it."""

    version: ModelVersion
    model: RewardModel
    queue: ScoringQueue


class ModelShelf:
    """Serves reward models by name.

    Args:
        checkpoints: Where they lie.
        loader: Reads them.
        memory: Knows them after a restart.
        clock: The time.
        executor: The one thread in which models work.
        limits: Sizes of batches and queues.
    """

    def __init__(
        self,
        checkpoints: CheckpointSource,
        loader: RewardModelLoader,
        memory: ModelMemory,
        clock: Clock,
        executor: Executor,
        limits: Limits,
    ) -> None:
        self._checkpoints = checkpoints
        self._loader = loader
        self._memory = memory
        self._clock = clock
        self._executor = executor
        self._limits = limits
        self._served: dict[str, Served] = {}
        self._stored: dict[str, StoredModel] = {}
        # Loading and unloading one at a time keeps what is served and what is remembered the same.
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Loads what was loaded before a restart; a model that cannot be loaded now stays remembered."""
        self._stored = dict(await asyncio.to_thread(self._memory.read))
        for stored in self._stored.values():
            try:
                digest = await asyncio.to_thread(self._checkpoints.digest, stored.uri)
                _check_unchanged(stored, digest)
                await self._serve(stored)
            except IlfError as error:
                log.error(
                    "reward model not restored: %s",
                    error.message,
                    extra={"reward_model": stored.name, "reason": error.reason},
                )

    async def stop(self) -> None:
        """Finishes what waits and frees all models."""
        for name in list(self._served):
            await self._retire(self._served.pop(name))

    def queued(self) -> int:
        """Sequences that wait, over all models."""
        return sum(served.queue.waiting for served in self._served.values())

    async def load(self, request_id: str, name: str, uri: str) -> ModelVersion:
        """Serves a trained directory under a name; a repeat answers what is there.

        Raises:
            InvalidArgumentError: A wrong field, or URI_OUTSIDE_STORE.
            NotFoundError: reason CHECKPOINT_NOT_FOUND.
            FailedPreconditionError: reason CHECKPOINT_BROKEN or CHECKPOINT_UNSUPPORTED.
            AlreadyExistsError: reason REWARD_MODEL_CONFLICT; the name serves another directory.
        """
        validation.check_load(request_id, name, uri)
        async with self._changing:
            digest = await asyncio.to_thread(self._checkpoints.digest, uri)
            served = self._served.get(name)
            if served is not None:
                return _same_or_refuse(served.version, digest)
            stored = StoredModel(name, uri, digest, self._clock())
            version = await self._serve(stored)
            await self._remember({**self._stored, name: stored})
            return version

    async def unload(self, request_id: str, name: str) -> None:
        """Stops serving a name once its calls are done; a name that is not there is fine."""
        validation.check_named(name, request_id)
        async with self._changing:
            await self._remember({key: stored for key, stored in self._stored.items() if key != name})
            served = self._served.pop(name, None)
            if served is not None:
                await self._retire(served)

    def get(self, name: str) -> ModelVersion:
        """A loaded model.

        Raises:
            NotFoundError: reason REWARD_MODEL_NOT_FOUND.
        """
        validation.check_named(name)
        return self._find(name).version

    def list_models(self) -> Sequence[ModelVersion]:
        """All loaded models."""
        return [served.version for served in self._served.values()]

    def find(self, names: Sequence[str]) -> list[Served]:
        """Loaded models, in the order of their names.

        Raises:
            NotFoundError: reason REWARD_MODEL_NOT_FOUND.
        """
        return [self._find(name) for name in names]

    def _find(self, name: str) -> Served:
        served = self._served.get(name)
        if served is not None:
            return served
        hint = "it could not be restored at the start; load it again" if name in self._stored else "load it first"
        raise NotFoundError(
            f"Reward model {name!r} is not loaded: {hint}.",
            resource_type="reward_model",
            resource_name=name,
            reason="REWARD_MODEL_NOT_FOUND",
        )

    async def _serve(self, stored: StoredModel) -> ModelVersion:
        folder = await asyncio.to_thread(self._checkpoints.fetch, stored.uri)
        model = await asyncio.to_thread(self._loader.load, folder)
        version = ModelVersion(stored.name, stored.uri, stored.digest, stored.load_time, model.max_length, model.card)
        self._served[stored.name] = Served(version, model, ScoringQueue(model, self._executor, self._limits))
        log.info("reward model loaded", extra={"reward_model": stored.name, "digest": stored.digest})
        return version

    async def _remember(self, models: Mapping[str, StoredModel]) -> None:
        await asyncio.to_thread(self._memory.write, models)
        self._stored = dict(models)

    async def _retire(self, served: Served) -> None:
        await served.queue.close()
        await asyncio.to_thread(served.model.close)


def _check_unchanged(stored: StoredModel, digest: str) -> None:
    if stored.digest != digest:
        raise FailedPreconditionError(
            f"{stored.uri} holds another checkpoint than the one that {stored.name!r} served before the restart.",
            reason="CHECKPOINT_BROKEN",
            metadata={"resource": stored.name},
        )


def _same_or_refuse(version: ModelVersion, digest: str) -> ModelVersion:
    if version.digest == digest:
        return version
    raise AlreadyExistsError(
        f"{version.name!r} serves the reward model {version.uri}. Unload it first, or choose another name.",
        reason="REWARD_MODEL_CONFLICT",
        metadata={"resource": version.name, "digest": version.digest},
    )
