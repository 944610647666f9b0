"""The `TextEngine` that runs on transformers: no start-up to speak of, and the same bytes for the same call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import torch

from ilf_common.engine.batches import (
    BatchWork,
    Encoded,
    RequestT,
    ValueT,
    cut,
    encode,
    generate_batch,
    next_token_batch,
    score_batch,
)
from ilf_common.engine.causal_model import CausalModel, is_fatal
from ilf_common.engine.checkpoint_files import unsupported
from ilf_common.engine.port import GenerateRequest, Generation, NextTokenRequest, Outcome, ScoreRequest, TextScore
from ilf_common.engine.settings import EngineSettings
from ilf_common.engine.work_queue import Call, WorkQueue
from ilf_common.errors import FailedPreconditionError, IlfError, UnavailableError


class TransformersEngine:
    """Runs one model on one worker thread.

    A call is cut into batches that depend on this call alone, in the order given, so the same call gives the same
    result. Calls take turns batch by batch.

    Args:
        source: Directory or hub id of the model.
        settings: How to load and run it.
    """

    def __init__(self, source: str, settings: EngineSettings) -> None:
        self._source = source
        self._settings = settings
        self._queue = WorkQueue("transformers-engine", settings.max_queue, is_fatal)
        self._loaded: CausalModel | None = None
        self._used_names: set[str] = set()

    @property
    def max_model_len(self) -> int:
        """As `TextEngine.max_model_len`."""
        return self._model.max_model_len

    async def start(self) -> None:
        """As `TextEngine.start`."""
        self._queue.start()
        try:
            self._loaded = await self._queue.run(lambda: CausalModel(self._source, self._settings))
        except (OSError, ValueError, RuntimeError) as error:
            await self.stop()
            raise unsupported(f"The model {self._source} cannot be loaded; the server's log has the cause.") from error

    async def stop(self) -> None:
        """As `TextEngine.stop`."""
        await self._queue.stop()
        self._loaded = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    async def check_health(self) -> None:
        """As `TextEngine.check_health`."""
        self._queue.check_alive()

    def generate(self, requests: Sequence[GenerateRequest]) -> AsyncIterator[Outcome[Generation]]:
        """As `TextEngine.generate`."""
        return self._queue.stream(len(requests), lambda call: self._steps(requests, call, generate_batch))

    def score(self, requests: Sequence[ScoreRequest]) -> AsyncIterator[Outcome[TextScore]]:
        """As `TextEngine.score`."""
        return self._queue.stream(len(requests), lambda call: self._steps(requests, call, score_batch))

    def next_token_logprobs(self, requests: Sequence[NextTokenRequest]) -> AsyncIterator[Outcome[tuple[float, ...]]]:
        """As `TextEngine.next_token_logprobs`."""
        return self._queue.stream(len(requests), lambda call: self._steps(requests, call, next_token_batch))

    def encode(self, text: str) -> list[int]:
        """As `TextEngine.encode`."""
        return self._model.encoder.encode_completion(text, add_eos=False)

    def count_prompt_tokens(self, prompt: str) -> int:
        """As `TextEngine.count_prompt_tokens`."""
        return len(self._model.encoder.encode_prompt(prompt))

    async def load_adapter(self, name: str, path: Path) -> None:
        """As `TextEngine.load_adapter`."""
        if name in self._used_names:
            raise FailedPreconditionError(f"An adapter was already loaded as {name}.", reason="ADAPTER_NAME_USED")
        await self._queue.run(lambda: self._model.load_adapter(name, path))
        self._used_names.add(name)

    async def unload_adapter(self, name: str) -> None:
        """As `TextEngine.unload_adapter`."""
        await self._queue.run(lambda: self._model.unload_adapter(name))

    async def reload_weights(self, path: Path) -> None:
        """As `TextEngine.reload_weights`."""
        await self._queue.run(lambda: self._model.reload_weights(path))

    async def weights_checksum(self, adapter: str | None = None) -> str:
        """As `TextEngine.weights_checksum`."""
        return await self._queue.run(lambda: self._model.weights_checksum(adapter))

    @property
    def _model(self) -> CausalModel:
        if self._loaded is None:
            raise UnavailableError("The engine is not started.", reason="ENGINE_STOPPED")
        return self._loaded

    def _steps(
        self, requests: Sequence[RequestT], call: Call, work: BatchWork[RequestT, ValueT]
    ) -> Iterator[list[Outcome[ValueT]]]:
        """Encodes the call, answers what does not fit, and works through each adapter's requests apart."""
        groups: dict[str | None, list[Encoded[RequestT]]] = {}
        for index, request in enumerate(requests):
            call.raise_if_abandoned()
            try:
                encoded = encode(self._model, index, request)
            except IlfError as error:
                yield [Outcome(index, error=error)]
            else:
                groups.setdefault(request.adapter, []).append(encoded)
        for adapter, group in groups.items():
            for batch in cut(group, self._settings.batch_size):
                with torch.inference_mode(), self._model.using(adapter):
                    values = work(self._model, batch, self._settings, call.raise_if_abandoned)
                yield [Outcome(one.index, value=value) for one, value in zip(batch, values, strict=True)]
