"""An instant engine whose answers follow from the request alone."""

from __future__ import annotations

import asyncio
import hashlib
import math
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ilf_common.engine.port import (
    FinishReason,
    GenerateRequest,
    Generation,
    NextTokenRequest,
    Outcome,
    Sample,
    ScoreRequest,
    TextScore,
)
from ilf_common.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError

_WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven", "inlet", "jetty")

_Request = GenerateRequest | ScoreRequest | NextTokenRequest
RequestT = TypeVar("RequestT", GenerateRequest, ScoreRequest, NextTokenRequest)
ValueT = TypeVar("ValueT")


class FakeEngine:
    """A `TextEngine` without a model: tokens are words, texts and log-probabilities are digests of the request.

    Args:
        source: What the weights stand for; another source gives other answers and another checksum.
        max_model_len: Longest prompt plus new tokens, in words.
        reply: Text of sample `index` of a request, in place of the made-up one.
        next_token: Log-probability of one token id after a prompt, in place of the made-up one.

    Attributes:
        requests: Every request seen, in order.
        gate: Clear it to hold all calls before their next outcome; set (open) at first.
        dead: Set it to make every call raise `UnavailableError`.
        aborted: Calls whose iterator was closed before its end.
        started: Between `start` and `stop`.
        adapters: Loaded adapters by name.
    """

    def __init__(
        self,
        source: str = "fake",
        *,
        max_model_len: int = 4096,
        reply: Callable[[GenerateRequest, int], str] | None = None,
        next_token: Callable[[NextTokenRequest, int], float] | None = None,
    ) -> None:
        self._source = source
        self._max_model_len = max_model_len
        self._reply = reply
        self._next_token = next_token
        self.requests: list[_Request] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.dead = False
        self.aborted = 0
        self.started = False
        self.adapters: dict[str, Path] = {}

    @property
    def max_model_len(self) -> int:
        return self._max_model_len

    async def start(self) -> None:
        self.started = True

    async def stop(self) -> None:
        self.started = False

    async def check_health(self) -> None:
        if self.dead:
            raise UnavailableError("The engine is dead.", reason="ENGINE_DEAD")

    def generate(self, requests: Sequence[GenerateRequest]) -> AsyncIterator[Outcome[Generation]]:
        return self._answer(requests, self._generate_one)

    def score(self, requests: Sequence[ScoreRequest]) -> AsyncIterator[Outcome[TextScore]]:
        return self._answer(requests, self._score_one)

    def next_token_logprobs(self, requests: Sequence[NextTokenRequest]) -> AsyncIterator[Outcome[tuple[float, ...]]]:
        return self._answer(requests, self._next_token_one)

    def encode(self, text: str) -> list[int]:
        return [zlib.crc32(word.encode()) % 32_000 for word in text.split()]

    def count_prompt_tokens(self, prompt: str) -> int:
        return len(prompt.split())

    async def load_adapter(self, name: str, path: Path) -> None:
        if not (path / "adapter_config.json").is_file():
            raise FailedPreconditionError(f"{name} is no adapter.", reason="CHECKPOINT_UNSUPPORTED")
        self.adapters[name] = path

    async def unload_adapter(self, name: str) -> None:
        self.adapters.pop(name, None)

    async def reload_weights(self, path: Path) -> None:
        self._source = _digest_of(path)

    async def weights_checksum(self, adapter: str | None = None) -> str:
        return _digest(self._source, _digest_of(self.adapters[adapter]) if adapter else "")

    async def _answer(
        self, requests: Sequence[RequestT], one: Callable[[RequestT], ValueT]
    ) -> AsyncIterator[Outcome[ValueT]]:
        finished = False
        try:
            for index, request in enumerate(requests):
                self.requests.append(request)
                await self.gate.wait()
                await self.check_health()
                yield self._outcome(index, request, one)
            finished = True
        finally:
            self.aborted += not finished

    def _outcome(self, index: int, request: RequestT, one: Callable[[RequestT], ValueT]) -> Outcome[ValueT]:
        tokens = self.count_prompt_tokens(request.prompt)
        if tokens >= self._max_model_len:
            error = InvalidArgumentError.of(
                "prompt", f"{tokens} tokens; at most {self._max_model_len - 1} fit", reason="PROMPT_TOO_LONG"
            )
            return Outcome(index, error=error)
        return Outcome(index, value=one(request))

    def _generate_one(self, request: GenerateRequest) -> Generation:
        samples = tuple(self._sample(request, index) for index in range(request.sampling.n))
        return Generation(samples, prompt_tokens=self.count_prompt_tokens(request.prompt))

    def _sample(self, request: GenerateRequest, index: int) -> Sample:
        text = self._reply(request, index) if self._reply else self._made_up(request, index)
        words = text.split()[: request.sampling.max_new_tokens]
        stopped = len(words) < request.sampling.max_new_tokens
        return Sample(
            text=text if stopped else " ".join(words),
            token_count=len(words) + stopped,
            finish_reason=FinishReason.STOP if stopped else FinishReason.LENGTH,
            logprob=-float(len(words) + stopped),
        )

    def _made_up(self, request: GenerateRequest, index: int) -> str:
        seed = 0 if request.sampling.temperature == 0 else request.seed + index
        digest = _digest(self._source, request.adapter or "", request.prompt, str(seed))
        return " ".join(_WORDS[int(digit, 16) % len(_WORDS)] for digit in digest[:8])

    def _score_one(self, request: ScoreRequest) -> TextScore:
        count = len(request.text.split()) + request.add_eos
        unit = _unit(self._source, request.adapter or "", request.prompt, request.text)
        return TextScore(logprob=-count * (0.5 + unit), token_count=count)

    def _next_token_one(self, request: NextTokenRequest) -> tuple[float, ...]:
        if self._next_token:
            return tuple(self._next_token(request, token_id) for token_id in request.token_ids)
        weights = [0.1 + _unit(self._source, request.adapter or "", request.prompt, str(i)) for i in request.token_ids]
        # A tenth of the mass goes to tokens that were not asked for.
        return tuple(math.log(0.9 * weight / sum(weights)) for weight in weights)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()


def _unit(*parts: str) -> float:
    return int(_digest(*parts)[:8], 16) / 2**32


def _digest_of(directory: Path) -> str:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return _digest(*(f"{path.name}:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files))
