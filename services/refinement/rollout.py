"""Brings a version's weights into an engine, proves that they are there, and takes them out again."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from ilf_common.engine.port import GenerateRequest, Sampling, TextEngine
from ilf_common.errors import FailedPreconditionError, IlfError, InvalidArgumentError
from services.refinement.engine_calls import closing
from services.refinement.models import Checkpoint, PolicyKind, PolicyVersion
from services.refinement.ports import EngineFactory, SourceReader
from services.refinement.serving import ServedModel

log = logging.getLogger("ilf.refinement.rollout")

_PROBE = GenerateRequest("Hello", Sampling(n=1, temperature=0.0, top_p=1.0, max_new_tokens=1), seed=0)
_PROBE_SECONDS = 120.0
_ARCHITECTURE_FILES = ("config.json", "tokenizer", "special_tokens", "vocab", "merges", "chat_template", "added_tokens")


class Rollout:
    """Loads and unloads versions; who serves under which name is not decided here.

    Args:
        engines: Makes engines for whole checkpoints.
        sources: Looks at the sources of base models.
        max_adapter_rank: Largest rank of an adapter that the engines take.
    """

    def __init__(self, engines: EngineFactory, sources: SourceReader, max_adapter_rank: int) -> None:
        self._engines = engines
        self._sources = sources
        self._max_adapter_rank = max_adapter_rank
        self._checksums: dict[str, str] = {}
        self._adapter_numbers = itertools.count(1)

    async def stage_source(self, version: PolicyVersion) -> ServedModel:
        """Starts the engine of a model that the settings name."""
        engine = await self._started(version.uri)
        checksum = await engine.weights_checksum()
        return ServedModel(replace(version, checksum=checksum), engine, version.uri)

    async def stage_checkpoint(self, version: PolicyVersion, checkpoint: Checkpoint) -> ServedModel:
        """Loads a whole checkpoint into an engine of its own and verifies it; on failure nothing stays behind.

        Raises:
            FailedPreconditionError: reason CHECKPOINT_UNSUPPORTED or CHECKPOINT_BROKEN.
        """
        async with _explained(version):
            engine = await self._started(str(checkpoint.path))
            try:
                checksum = await self._verify(engine, None, checkpoint)
            except BaseException:
                await engine.stop()
                raise
        return ServedModel(replace(version, checksum=checksum), engine, str(checkpoint.path), checkpoint=checkpoint)

    async def stage_adapter(self, version: PolicyVersion, checkpoint: Checkpoint, base: ServedModel) -> ServedModel:
        """Loads an adapter into the engine of its base and verifies it; on failure nothing stays behind.

        Raises:
            InvalidArgumentError: The base is an adapter itself.
            FailedPreconditionError: reason CHECKPOINT_UNSUPPORTED (kind, rank or base) or CHECKPOINT_BROKEN.
        """
        await self._check_adapter(checkpoint, base)
        # The engine must never have seen the name, so that nothing it remembers of another version can answer.
        name = f"{version.name}@{version.digest[:12]}.{next(self._adapter_numbers)}"
        async with _explained(version):
            try:
                await base.engine.load_adapter(name, checkpoint.path)
                checksum = await self._verify(base.engine, name, checkpoint)
            except BaseException:
                await base.engine.unload_adapter(name)
                raise
        return ServedModel(
            replace(version, checksum=checksum), base.engine, base.source, adapter=name, checkpoint=checkpoint
        )

    async def exchange(self, old: ServedModel, version: PolicyVersion, checkpoint: Checkpoint) -> ServedModel:
        """Puts a checkpoint's weights into the engine of a version that nobody uses; on failure the old ones are back.

        Raises:
            FailedPreconditionError: reason CHECKPOINT_UNSUPPORTED or CHECKPOINT_BROKEN.
        """
        async with _explained(version):
            try:
                await old.engine.reload_weights(checkpoint.path)
                checksum = await self._verify(old.engine, None, checkpoint)
                _check_changed(old, checkpoint, checksum)
            except BaseException:
                await self.put_back(old)
                raise
        policy = replace(version, checksum=checksum)
        return ServedModel(policy, old.engine, str(checkpoint.path), checkpoint=checkpoint)

    async def put_back(self, old: ServedModel) -> None:
        """Gives an engine the weights of the old version again, or the old version another engine."""
        with suppress(Exception):
            await old.engine.reload_weights(_directory(old).path)
            if await old.engine.weights_checksum() == old.policy.checksum:
                return
        log.error("weights not restored in place; starting another engine", extra={"policy": old.policy.name})
        broken = old.engine
        old.engine = await self._started(old.source)
        await broken.stop()

    async def retire(self, model: ServedModel) -> None:
        """Waits until nobody uses a model, then frees what it holds."""
        await model.idle.wait()
        if model.adapter is not None:
            await model.engine.unload_adapter(model.adapter)
        else:
            await model.engine.stop()

    async def _started(self, source: str) -> TextEngine:
        engine = self._engines(source)
        try:
            await engine.start()
        except BaseException:
            await engine.stop()
            raise
        return engine

    async def _verify(self, engine: TextEngine, adapter: str | None, checkpoint: Checkpoint) -> str:
        """Reads the weights' checksum back, before and after a first generation, and compares it with what is known.

        An engine may still move or convert weights lazily; equal readings around real work show that it is done.
        """
        checksum = await engine.weights_checksum(adapter)
        await _probe(engine, adapter)
        expected = self._checksums.get(checkpoint.digest, checksum)
        if not checksum == expected == await engine.weights_checksum(adapter):
            raise FailedPreconditionError(
                f"The weights that the engine holds are not those of {checkpoint.uri}: their checksum differs from "
                "that of an earlier reading. Load it once more; when it stays so, publish the checkpoint again.",
                reason="CHECKPOINT_BROKEN",
                metadata={"uri": checkpoint.uri},
            )
        self._checksums[checkpoint.digest] = checksum
        return checksum

    async def _check_adapter(self, checkpoint: Checkpoint, base: ServedModel) -> None:
        facts = checkpoint.adapter
        if facts is None:
            raise AssertionError("only adapters are staged on a base")
        if not base.is_whole:
            raise InvalidArgumentError.of(
                "base_model", f"{base.policy.name!r} is an adapter itself; name the model under it"
            )
        if facts.peft_type != "LORA":
            raise _unsupported(checkpoint, f"it is a {facts.peft_type} adapter; only LORA adapters are served")
        if facts.rank > self._max_adapter_rank:
            raise _unsupported(
                checkpoint,
                f"its rank is {facts.rank}; the engines take up to {self._max_adapter_rank} (engine.max_lora_rank)",
            )
        if facts.base and not await self._sources.same_model(facts.base, base.source):
            raise _unsupported(checkpoint, f"it was trained on another model than {base.policy.name!r}")


def can_exchange(old: ServedModel, checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint's weights may go into the engine of an old version that nobody uses.

    An engine holds a configuration and a tokenizer too, which an exchange of weights leaves as they are.
    """
    if old.checkpoint is None or not old.is_whole or checkpoint.adapter is not None or old.running:
        return False
    return _architecture(old.checkpoint) == _architecture(checkpoint)


def _architecture(checkpoint: Checkpoint) -> dict[str, str]:
    return {path: sha256 for path, sha256 in checkpoint.files.items() if path.startswith(_ARCHITECTURE_FILES)}


def _directory(model: ServedModel) -> Checkpoint:
    if model.checkpoint is None:
        raise AssertionError("models of the settings are never exchanged")
    return model.checkpoint


def _check_changed(old: ServedModel, checkpoint: Checkpoint, checksum: str) -> None:
    """Other weight files that read back as the old weights were not taken by the engine."""
    if checksum == old.policy.checksum and _weights(checkpoint) != _weights(_directory(old)):
        raise FailedPreconditionError(
            f"The engine still holds the weights of {old.policy.version} after loading {checkpoint.uri}. "
            "Load the checkpoint under a name of its own.",
            reason="CHECKPOINT_UNSUPPORTED",
            metadata={"uri": checkpoint.uri},
        )


def _weights(checkpoint: Checkpoint) -> dict[str, str]:
    return {path: sha256 for path, sha256 in checkpoint.files.items() if path.endswith(".safetensors")}


async def _probe(engine: TextEngine, adapter: str | None) -> None:
    """One tiny generation, greedy, so that a version that cannot answer is found before it has traffic."""
    async with (
        asyncio.timeout(_PROBE_SECONDS),
        closing(engine.generate([replace(_PROBE, adapter=adapter)])) as outcomes,
    ):
        async for outcome in outcomes:
            if outcome.value is None or not outcome.value.samples:
                raise outcome.error or RuntimeError("the probe was answered with neither a sample nor an error")


@asynccontextmanager
async def _explained(version: PolicyVersion) -> AsyncIterator[None]:
    """Turns what an engine raises over a directory that it cannot load into an error for the caller."""
    try:
        yield
    except IlfError:
        raise
    except Exception as error:
        log.exception("a version could not be loaded", extra={"policy": version.name})
        raise FailedPreconditionError(
            f"{version.uri} could not be loaded ({type(error).__name__}); what served before serves on. "
            "The server's log has the cause; check that the checkpoint is complete and of a supported architecture.",
            reason="CHECKPOINT_UNSUPPORTED",
            metadata={"uri": version.uri},
        ) from error


def _unsupported(checkpoint: Checkpoint, why: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"{checkpoint.uri} cannot be served: {why}.",
        reason="CHECKPOINT_UNSUPPORTED",
        metadata={"uri": checkpoint.uri},
    )


def kind_of(checkpoint: Checkpoint) -> PolicyKind:
    """What a checkpoint's directory holds."""
    return PolicyKind.ADAPTER if checkpoint.adapter else PolicyKind.CHECKPOINT
