"""Turns requests into vLLM's prompts and sampling parameters, and its outputs into values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from vllm import SamplingParams
from vllm.inputs import tokens_input
from vllm.sampling_params import RequestOutputKind

from ilf_common.engine.door import check_length, check_token_ids
from ilf_common.engine.port import (
    FinishReason,
    GenerateRequest,
    Generation,
    NextTokenRequest,
    Sample,
    ScoreRequest,
    TextScore,
)
from ilf_common.engine.prompt_encoder import PromptEncoder
from ilf_common.errors import require

ValueT = TypeVar("ValueT")

_MAX_TEMPERATURE = 2.0
# vLLM gives sample i the seed + i; the sum has to stay a signed 64-bit number.
_SEEDS = 2**63 - 2**20


@dataclass(frozen=True)
class Prepared(Generic[ValueT]):
    """A request that vLLM can take.

    Attributes:
        prompt: vLLM's input.
        params: vLLM's sampling parameters.
        read: Reads the value from the finished output.
    """

    prompt: Any
    params: Any
    read: Callable[[Any], ValueT]


class RequestMaker:
    """Prepares the requests of one model.

    Args:
        encoder: Of the model.
        max_model_len: Longest sequence of prompt and new tokens.
        vocabulary: Tokens of the model.
        stop_token_ids: Tokens that end a sample.
    """

    def __init__(
        self, encoder: PromptEncoder, max_model_len: int, vocabulary: int, stop_token_ids: frozenset[int]
    ) -> None:
        self.encoder = encoder
        self.max_model_len = max_model_len
        self._vocabulary = vocabulary
        self._stop_token_ids = stop_token_ids

    def generation(self, request: GenerateRequest) -> Prepared[Generation]:
        """Samples; the log-probabilities are raw, before temperature and nucleus.

        Raises:
            InvalidArgumentError: reason PROMPT_TOO_LONG or INVALID_FIELD.
        """
        sampling = request.sampling
        require(sampling.temperature <= _MAX_TEMPERATURE, "temperature", f"vLLM takes at most {_MAX_TEMPERATURE}")
        prompt = self._encode(request.prompt, [])
        params = SamplingParams(
            n=sampling.n,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=min(sampling.max_new_tokens, self.max_model_len - len(prompt)),
            stop=list(sampling.stop),
            stop_token_ids=sorted(self._stop_token_ids),
            seed=request.seed % _SEEDS,
            logprobs=0,
            # Texts are decoded once at the end; only stop strings need them on the way.
            detokenize=bool(sampling.stop),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        return Prepared(
            tokens_input(prompt), params, lambda output: self._read_generation(output, request, len(prompt))
        )

    def text_score(self, request: ScoreRequest) -> Prepared[TextScore]:
        """Reads the log-probabilities of the text as part of a prompt; such a request reads no prefix cache.

        Raises:
            InvalidArgumentError: reason PROMPT_TOO_LONG or INVALID_FIELD.
        """
        completion = self.encoder.encode_completion(request.text, request.add_eos)
        ids = self._encode(request.prompt, completion)
        params = SamplingParams(
            max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY
        )
        return Prepared(tokens_input(ids), params, lambda output: _read_score(output, completion))

    def next_tokens(self, request: NextTokenRequest) -> Prepared[tuple[float, ...]]:
        """Reads the log-probabilities of chosen tokens at the first new position.

        Raises:
            InvalidArgumentError: reason PROMPT_TOO_LONG or INVALID_FIELD.
        """
        check_token_ids(request.token_ids, self._vocabulary)
        params = SamplingParams(
            max_tokens=1,
            temperature=0.0,
            logprob_token_ids=list(dict.fromkeys(request.token_ids)),
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        prompt = tokens_input(self._encode(request.prompt, []))
        return Prepared(prompt, params, lambda output: _read_next_tokens(output, request.token_ids))

    def _encode(self, prompt: str, completion: list[int]) -> list[int]:
        ids = self.encoder.encode_prompt(prompt)
        check_length(ids, completion, self.max_model_len)
        return [*ids, *completion]

    def _read_generation(self, output: Any, request: GenerateRequest, prompt_tokens: int) -> Generation:
        completions = output.outputs
        if request.sampling.stop:
            texts = [one.text for one in completions]
        else:
            texts = self.encoder.decode([self._without_stop(one.token_ids) for one in completions])
        samples = [
            Sample(
                text=text,
                token_count=len(one.token_ids),
                finish_reason=FinishReason.STOP if one.finish_reason == "stop" else FinishReason.LENGTH,
                logprob=one.cumulative_logprob,
            )
            for one, text in zip(completions, texts, strict=True)
        ]
        return Generation(tuple(samples), prompt_tokens)

    def _without_stop(self, ids: Any) -> list[int]:
        return [token_id for token_id in ids if token_id not in self._stop_token_ids]


def _read_score(output: Any, completion: list[int]) -> TextScore:
    positions = output.prompt_logprobs[len(output.prompt_logprobs) - len(completion) :]
    total = sum(position[token].logprob for position, token in zip(positions, completion, strict=True))
    return TextScore(float(total), len(completion))


def _read_next_tokens(output: Any, token_ids: tuple[int, ...]) -> tuple[float, ...]:
    position = output.outputs[0].logprobs[0]
    return tuple(float(position[token_id].logprob) for token_id in token_ids)
