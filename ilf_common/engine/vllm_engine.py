"""The `TextEngine` that runs on vLLM's AsyncLLM, in process; the model itself lives in vLLM's own processes."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ilf_common.engine.checkpoint_files import Shapes, check_adapter, check_same_kind, linear_shapes, unsupported
from ilf_common.engine.port import GenerateRequest, Generation, NextTokenRequest, Outcome, ScoreRequest, TextScore
from ilf_common.engine.prompt_encoder import PromptEncoder
from ilf_common.engine.settings import EngineSettings
from ilf_common.errors import (
    FailedPreconditionError,
    IlfError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)

if TYPE_CHECKING:
    from ilf_common.engine.vllm_requests import Prepared, RequestMaker

RequestT = TypeVar("RequestT", GenerateRequest, ScoreRequest, NextTokenRequest)
ValueT = TypeVar("ValueT")

_LOG = logging.getLogger(__name__)
_RETRY_SECONDS = 1.0


class VllmEngine:
    """Runs one model on vLLM.

    vLLM composes batches from whatever is in flight, so a seed reproduces a sample only as far as the batch does not
    change the last bits of the logits.

    Args:
        source: Directory or hub id of the model.
        settings: How to load and run it.
    """

    def __init__(self, source: str, settings: EngineSettings) -> None:
        self._source = source
        self._settings = settings
        self._engine: Any = None
        self._maker: RequestMaker | None = None
        self._ids = itertools.count(1)
        self._adapters: dict[str, Any] = {}
        self._used_names: set[str] = set()
        self._base_shapes: Shapes | None = None
        self._pending = 0
        self._swap = asyncio.Lock()

    @property
    def max_model_len(self) -> int:
        """As `TextEngine.max_model_len`."""
        return self._ready.max_model_len

    async def start(self) -> None:
        """As `TextEngine.start`."""
        from ilf_common.engine.vllm_start import start_async_llm

        try:
            self._engine = await asyncio.to_thread(start_async_llm, self._source, self._settings)
        except (OSError, ValueError, RuntimeError) as error:
            raise unsupported(f"The model {self._source} cannot be loaded; the server's log has the cause.") from error
        # The first call starts the task that listens for the death of vLLM's processes.
        await self._engine.get_supported_tasks()
        self._maker = _request_maker(self._engine)

    async def stop(self) -> None:
        """As `TextEngine.stop`."""
        if self._engine is not None:
            self._engine.shutdown()
        self._engine = None

    async def check_health(self) -> None:
        """As `TextEngine.check_health`."""
        if self._engine is None:
            raise UnavailableError("The engine is stopped.", reason="ENGINE_STOPPED")
        if self._engine.errored:
            raise _dead()

    def generate(self, requests: Sequence[GenerateRequest]) -> AsyncIterator[Outcome[Generation]]:
        """As `TextEngine.generate`."""
        return self._answer(requests, lambda request: self._ready.generation(request))

    def score(self, requests: Sequence[ScoreRequest]) -> AsyncIterator[Outcome[TextScore]]:
        """As `TextEngine.score`."""
        return self._answer(requests, lambda request: self._ready.text_score(request))

    def next_token_logprobs(self, requests: Sequence[NextTokenRequest]) -> AsyncIterator[Outcome[tuple[float, ...]]]:
        """As `TextEngine.next_token_logprobs`."""
        return self._answer(requests, lambda request: self._ready.next_tokens(request))

    def encode(self, text: str) -> list[int]:
        """As `TextEngine.encode`."""
        return self._ready.encoder.encode_completion(text, add_eos=False)

    def count_prompt_tokens(self, prompt: str) -> int:
        """As `TextEngine.count_prompt_tokens`."""
        return len(self._ready.encoder.encode_prompt(prompt))

    async def load_adapter(self, name: str, path: Path) -> None:
        """As `TextEngine.load_adapter`; the files must stay, vLLM reads them again after a change of the weights."""
        if name in self._used_names:
            raise FailedPreconditionError(f"An adapter was already loaded as {name}.", reason="ADAPTER_NAME_USED")
        if self._settings.max_loras == 0:
            raise unsupported("This engine was started with max_loras=0, so it takes no adapters.")
        await asyncio.to_thread(self._check_adapter, path)
        from vllm.lora.request import LoRARequest

        adapter = LoRARequest(name, next(self._ids), str(path))
        # Even after a failure: vLLM's prefix cache goes by the name, so it must never mean another adapter.
        self._used_names.add(name)
        try:
            await self._running.add_lora(adapter)
        except Exception as error:
            await self.check_health()
            raise unsupported("vLLM cannot load the adapter; the server's log has the cause.") from error
        self._adapters[name] = adapter

    async def unload_adapter(self, name: str) -> None:
        """As `TextEngine.unload_adapter`."""
        adapter = self._adapters.pop(name, None)
        if adapter is not None:
            await self._running.remove_lora(adapter.lora_int_id)

    async def reload_weights(self, path: Path) -> None:
        """As `TextEngine.reload_weights`; running requests end first, new ones wait until it is done."""
        await asyncio.to_thread(check_same_kind, self._source, path)
        async with self._swap:
            await self._running.pause_generation(mode="wait", clear_cache=True)
            try:
                await self._running.collective_rpc("reload_weights", kwargs={"weights_path": str(path)})
                await self._running.reset_prefix_cache()
            finally:
                await self._running.resume_generation()

    async def weights_checksum(self, adapter: str | None = None) -> str:
        """As `TextEngine.weights_checksum`."""
        if adapter is None:
            return _digest(await self._running.compute_weight_checksums())
        loaded = self._adapter(adapter)
        await self._running.add_lora(loaded)
        return _digest(await self._running.collective_rpc("ilf_adapter_digests", args=(loaded.lora_int_id,)))

    @property
    def _running(self) -> Any:
        if self._engine is None:
            raise UnavailableError("The engine is not started.", reason="ENGINE_STOPPED")
        return self._engine

    @property
    def _ready(self) -> RequestMaker:
        if self._maker is None:
            raise UnavailableError("The engine is not started.", reason="ENGINE_STOPPED")
        return self._maker

    def _check_adapter(self, path: Path) -> None:
        if self._base_shapes is None:
            self._base_shapes = linear_shapes(self._source)
        check_adapter(path, self._base_shapes, max_rank=self._settings.max_lora_rank)

    def _adapter(self, name: str) -> Any:
        adapter = self._adapters.get(name)
        if adapter is None:
            raise NotFoundError(
                f"No adapter {name} is loaded.", resource_type="adapter", resource_name=name, reason="ADAPTER_NOT_FOUND"
            )
        return adapter

    async def _answer(
        self, requests: Sequence[RequestT], prepare: Callable[[RequestT], Prepared[ValueT]]
    ) -> AsyncGenerator[Outcome[ValueT], None]:
        """Keeps a window of the call's requests in flight and yields outcomes as they finish."""
        await self.check_health()
        self._admit(len(requests))
        outcomes: asyncio.Queue[Outcome[ValueT] | UnavailableError] = asyncio.Queue()
        waiting = iter(enumerate(requests))

        async def work() -> None:
            # The workers share one iterator, so each request is taken once.
            for index, request in waiting:
                await outcomes.put(await self._outcome(index, request, prepare))

        workers = [asyncio.create_task(work()) for _ in range(min(len(requests), self._settings.max_in_flight))]
        try:
            for _ in requests:
                outcome = await outcomes.get()
                if isinstance(outcome, UnavailableError):
                    raise outcome
                yield outcome
        finally:
            self._pending -= len(requests)
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    def _admit(self, size: int) -> None:
        if self._pending and self._pending + size > self._settings.max_queue:
            raise ResourceExhaustedError(
                f"{self._pending} requests are waiting, at most {self._settings.max_queue} may; repeat the call later.",
                retry_after=_RETRY_SECONDS,
            )
        self._pending += size

    async def _outcome(
        self, index: int, request: RequestT, prepare: Callable[[RequestT], Prepared[ValueT]]
    ) -> Outcome[ValueT] | UnavailableError:
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            value = await self._run(prepare(request), request.adapter)
            return Outcome(index, value=value)
        except EngineDeadError:
            return _dead()
        except UnavailableError as error:
            return error
        except VLLMClientError:
            _LOG.exception("vLLM refused a request")
            return Outcome(index, error=InvalidArgumentError.of("prompt", "vLLM cannot take this request"))
        except IlfError as error:
            return Outcome(index, error=error)
        except Exception:
            _LOG.exception("vLLM failed in a request")
            return Outcome(index, error=InternalError("The engine failed in this request."))

    async def _run(self, prepared: Prepared[ValueT], adapter: str | None) -> ValueT:
        lora = None if adapter is None else self._adapter(adapter)
        stream = self._running.generate(prepared.prompt, prepared.params, f"ilf-{next(self._ids)}", lora_request=lora)
        async for output in stream:
            if output.finished:
                return prepared.read(output)
        raise InternalError("The engine ended a request without an output.")


def _request_maker(engine: Any) -> RequestMaker:
    from ilf_common.engine.vllm_requests import RequestMaker

    config = engine.model_config
    encoder = PromptEncoder(engine.get_tokenizer())
    eos = config.try_get_generation_config().get("eos_token_id") or []
    stop_token_ids = encoder.stop_token_ids | frozenset([eos] if isinstance(eos, int) else eos)
    return RequestMaker(encoder, config.max_model_len, config.get_vocab_size(), stop_token_ids)


def _digest(per_worker: object) -> str:
    return hashlib.sha256(json.dumps(per_worker, sort_keys=True).encode()).hexdigest()


def _dead() -> UnavailableError:
    return UnavailableError("The engine is dead; restart the service.", reason="ENGINE_DEAD")
