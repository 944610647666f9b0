"""The use cases of the reward service."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass, replace

from ilf_common.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    FieldViolation,
    IlfError,
    InvalidArgumentError,
    NotFoundError,
)
from services.reward import validation
from services.reward.batching import ScoringQueue
from services.reward.models import (
    BestOfN,
    BestOfNCall,
    ItemOutcome,
    Limits,
    ModelVersion,
    Reward,
    ScoreCall,
    ScoreItem,
    StoredModel,
    TrainCall,
)
from services.reward.ports import (
    CheckpointSource,
    Clock,
    ModelMemory,
    OutputSampler,
    RewardModel,
    RewardModelLoader,
    RewardTrainer,
)

log = logging.getLogger("ilf.reward")


@dataclass(frozen=True)
class _Served:
    """A loaded model with the queue in front of it."""

    version: ModelVersion
    model: RewardModel
    queue: ScoringQueue


@dataclass(frozen=True)
class Surroundings:
    """Everything outside that the service uses."""

    checkpoints: CheckpointSource
    loader: RewardModelLoader
    memory: ModelMemory
    sampler: OutputSampler
    trainer: RewardTrainer
    clock: Clock


class RewardService:
    """Serves reward models by name.

    Args:
        surroundings: What is outside.
        executor: The one thread in which models work.
        limits: Sizes of batches and queues.
    """

    def __init__(self, surroundings: Surroundings, executor: Executor, limits: Limits) -> None:
        self._outside = surroundings
        self._executor = executor
        self._limits = limits
        self._served: dict[str, _Served] = {}
        self._stored: dict[str, StoredModel] = {}
        # Loading and unloading one at a time keeps what is served and what is remembered the same.
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Loads what was loaded before a restart; a model that cannot be loaded now stays remembered."""
        self._stored = dict(await asyncio.to_thread(self._outside.memory.read))
        for stored in self._stored.values():
            try:
                digest = await asyncio.to_thread(self._outside.checkpoints.digest, stored.uri)
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
            digest = await asyncio.to_thread(self._outside.checkpoints.digest, uri)
            served = self._served.get(name)
            if served is not None:
                return _same_or_refuse(served.version, digest)
            stored = StoredModel(name, uri, digest, self._outside.clock())
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

    async def score(self, model: str, item: ScoreItem, *, normalize: bool) -> Reward:
        """The reward of one output.

        Raises:
            InvalidArgumentError: A wrong field, or PROMPT_TOO_LONG.
            NotFoundError: reason REWARD_MODEL_NOT_FOUND.
            FailedPreconditionError: reason REWARD_STATISTICS_MISSING; `normalize` has nothing to go by.
            ResourceExhaustedError: reason QUEUE_FULL.
        """
        validation.check_single(model, item)
        served = self._find(model)
        (sequence,) = await _encoded(served.model, [item])
        _check_length(sequence, served.version.max_length, "context")
        (value,) = await self._rewards(served, [sequence])
        return _reward(served.version, value, len(sequence), normalize)

    async def score_batch(self, call: ScoreCall) -> AsyncGenerator[list[ItemOutcome]]:
        """Outcomes as they finish, those that finish together at once; a bad item fails alone.

        Raises:
            InvalidArgumentError: What the items share is wrong; else as `score`.
        """
        validation.check_batch(call)
        served = self._find(call.model)
        if call.normalize:
            served.version.normalized(0.0)
        good, refused = await self._sorted_out(served, call.items)
        if refused:
            yield refused
        sequences = list(good.values())
        positions = list(good)
        async with aclosing(served.queue.score(sequences)) as arrivals:
            async for scores in arrivals:
                yield [
                    ItemOutcome(
                        call.items[positions[index]].item_id,
                        reward=_reward(served.version, value, len(sequences[index]), call.normalize),
                    )
                    for index, value in scores
                ]

    async def best_of_n(self, call: BestOfNCall) -> BestOfN:
        """Draws N outputs and keeps the one with the highest reward, the first of equals.

        Raises:
            IlfError: As `score`, and what the refinement service raises.
        """
        validation.check_best_of_n(call)
        served = self._find(call.reward_model)
        drawn = await self._outside.sampler.sample(call)
        items = [ScoreItem("", call.context, sample.text) for sample in drawn.samples]
        sequences = await _encoded(served.model, items)
        for sequence in sequences:
            _check_length(sequence, served.version.max_length, "context")
        rewards = await self._rewards(served, sequences)
        best = max(range(len(rewards)), key=rewards.__getitem__)
        return BestOfN(drawn.samples, tuple(rewards), best, drawn.model_version)

    async def train(self, call: TrainCall) -> str:
        """Starts a job at the finetune service and answers its name; a repeat answers the first job.

        Raises:
            IlfError: A wrong field, and what the finetune service raises.
        """
        validation.check_train(call)
        return await self._outside.trainer.create_job(replace(call, request_id=call.request_id or str(uuid.uuid4())))

    def _find(self, name: str) -> _Served:
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
        folder = await asyncio.to_thread(self._outside.checkpoints.fetch, stored.uri)
        model = await asyncio.to_thread(self._outside.loader.load, folder)
        version = ModelVersion(
            stored.name, stored.uri, stored.digest, stored.load_time, model.max_length, model.statistics
        )
        self._served[stored.name] = _Served(version, model, ScoringQueue(model, self._executor, self._limits))
        log.info("reward model loaded", extra={"reward_model": stored.name, "digest": stored.digest})
        return version

    async def _remember(self, models: Mapping[str, StoredModel]) -> None:
        await asyncio.to_thread(self._outside.memory.write, models)
        self._stored = dict(models)

    async def _retire(self, served: _Served) -> None:
        await served.queue.close()
        await asyncio.to_thread(served.model.close)

    async def _sorted_out(
        self, served: _Served, items: Sequence[ScoreItem]
    ) -> tuple[dict[int, list[int]], list[ItemOutcome]]:
        """Positions of the good items with their sequences, and the outcomes of the others."""
        refused: list[ItemOutcome] = []
        readable = []
        for position, item in enumerate(items):
            violations = validation.item_violations(item, f"items[{position}].")
            if violations:
                refused.append(ItemOutcome(item.item_id, error=InvalidArgumentError(violations=violations)))
            else:
                readable.append(position)
        good: dict[int, list[int]] = {}
        sequences = await _encoded(served.model, [items[position] for position in readable])
        for position, sequence in zip(readable, sequences, strict=True):
            try:
                _check_length(sequence, served.version.max_length, f"items[{position}].context")
                good[position] = sequence
            except InvalidArgumentError as error:
                refused.append(ItemOutcome(items[position].item_id, error=error))
        return good, refused

    async def _rewards(self, served: _Served, sequences: Sequence[Sequence[int]]) -> list[float]:
        rewards = [0.0] * len(sequences)
        async with aclosing(served.queue.score(sequences)) as arrivals:
            async for scores in arrivals:
                for index, value in scores:
                    rewards[index] = value
        return rewards


async def _encoded(model: RewardModel, items: Sequence[ScoreItem]) -> list[list[int]]:
    """Token ids of the items, without holding up the other calls."""
    return await asyncio.to_thread(lambda: [model.encode(item.context, item.output) for item in items])


def _check_length(sequence: Sequence[int], limit: int, field: str) -> None:
    if len(sequence) > limit:
        raise InvalidArgumentError(
            violations=[
                FieldViolation(field, f"has {len(sequence):,} tokens with its output; this model takes {limit:,}")
            ],
            reason="PROMPT_TOO_LONG",
            metadata={"tokens": str(len(sequence)), "limit": str(limit)},
        )


def _reward(version: ModelVersion, value: float, token_count: int, normalize: bool) -> Reward:
    return Reward(version.normalized(value) if normalize else value, token_count)


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
