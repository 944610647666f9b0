"""What the services need of a text engine, whichever library runs the model.

`transformers_engine` and `vllm_engine` implement `TextEngine`; the same contract tests hold for both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from ilf_common.errors import IlfError

T_co = TypeVar("T_co", covariant=True)


class FinishReason(Enum):
    """Why a sample ended."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn.

    Attributes:
        n: Samples per prompt.
        temperature: 0 is greedy.
        top_p: Nucleus mass in (0, 1].
        max_new_tokens: Most new tokens of one sample.
        stop: Generation ends before the first of these strings.
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 0.95
    max_new_tokens: int = 48
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class GenerateRequest:
    """One prompt to sample from.

    Attributes:
        prompt: Rendered text; the engine adds the model's chat template where there is one (`PromptEncoder`).
        sampling: How to sample.
        seed: Determines the samples together with the batch that the request travels in.
        adapter: Name of a loaded LoRA adapter, or None for the bare model.
    """

    prompt: str
    sampling: Sampling
    seed: int
    adapter: str | None = None


@dataclass(frozen=True)
class Sample:
    """One sampled text.

    Attributes:
        text: Decoded without special tokens.
        token_count: Sampled tokens, the end-of-sequence token included.
        finish_reason: Why it ended.
        logprob: Sum of the tokens' raw log-probabilities (temperature 1), in nats.
    """

    text: str
    token_count: int
    finish_reason: FinishReason
    logprob: float


@dataclass(frozen=True)
class Generation:
    """The samples of one prompt, in order of their index."""

    samples: tuple[Sample, ...]
    prompt_tokens: int


@dataclass(frozen=True)
class ScoreRequest:
    """A text whose log-probability after a prompt is asked for.

    Attributes:
        prompt: Rendered text, as in `GenerateRequest`.
        text: The continuation; the caller has put the template's target prefix in front.
        add_eos: The end-of-sequence token counts as the last token (a finished output); False for a part of one.
        adapter: As in `GenerateRequest`.
    """

    prompt: str
    text: str
    add_eos: bool = True
    adapter: str | None = None


@dataclass(frozen=True)
class TextScore:
    """Summed raw log-probability in nats, and the number of tokens summed over."""

    logprob: float
    token_count: int


@dataclass(frozen=True)
class NextTokenRequest:
    """Asks for the raw log-probabilities of chosen tokens right after a prompt (at most 128 ids)."""

    prompt: str
    token_ids: tuple[int, ...]
    adapter: str | None = None


@dataclass(frozen=True)
class Outcome(Generic[T_co]):
    """What became of the request at `index` of a batch: a value, or the error of this request alone."""

    index: int
    value: T_co | None = None
    error: IlfError | None = None


class TextEngine(Protocol):
    """A loaded model.

    The three batch calls yield outcomes as they finish, in any order, each index exactly once; one bad request
    (a prompt longer than the window) never fails its batch. Closing the iterator aborts what is still running.
    A dead engine raises `UnavailableError` from the iterator.
    """

    @property
    def max_model_len(self) -> int:
        """Longest sequence of prompt and new tokens."""
        ...

    async def start(self) -> None:
        """Loads the model; returns when it can serve.

        Raises:
            FailedPreconditionError: reason CHECKPOINT_UNSUPPORTED; the library cannot load it.
        """
        ...

    async def stop(self) -> None:
        """Frees the model and its processes."""
        ...

    async def check_health(self) -> None:
        """Raises `UnavailableError` when the engine is dead."""
        ...

    def generate(self, requests: Sequence[GenerateRequest]) -> AsyncIterator[Outcome[Generation]]:
        """Samples every request; the n samples of a prompt share one prefill."""
        ...

    def score(self, requests: Sequence[ScoreRequest]) -> AsyncIterator[Outcome[TextScore]]:
        """Teacher-forces every text."""
        ...

    def next_token_logprobs(self, requests: Sequence[NextTokenRequest]) -> AsyncIterator[Outcome[tuple[float, ...]]]:
        """Log-probabilities in the order of `token_ids`."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a continuation: no special tokens, no chat template."""
        ...

    def count_prompt_tokens(self, prompt: str) -> int:
        """Tokens of a prompt with its special tokens and chat template."""
        ...

    async def load_adapter(self, name: str, path: Path) -> None:
        """Loads a PEFT LoRA adapter under a name that was never used before.

        Raises:
            FailedPreconditionError: reason CHECKPOINT_UNSUPPORTED; the adapter does not fit the model (base, rank).
        """
        ...

    async def unload_adapter(self, name: str) -> None:
        """Forgets an adapter; unknown names are ignored."""
        ...

    async def reload_weights(self, path: Path) -> None:
        """Replaces the model's weights in place by those of a checkpoint with the same architecture and tokenizer."""
        ...

    async def weights_checksum(self, adapter: str | None = None) -> str:
        """A digest read back from the weights that the engine really holds.

        Equal for two loads of the same checkpoint into the same engine kind, different after any change of weights.
        """
        ...
