"""The three things a text engine does, for one batch that shares its forward passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch

from ilf_common.engine.causal_model import CausalModel, padded
from ilf_common.engine.decoding import Decoding, Draft
from ilf_common.engine.door import check_length, check_token_ids
from ilf_common.engine.key_value_cache import reserved_cache
from ilf_common.engine.port import GenerateRequest, Generation, NextTokenRequest, Sample, ScoreRequest, TextScore
from ilf_common.engine.prefixes import Family, families, is_worth_sharing
from ilf_common.engine.settings import EngineSettings

RequestT = TypeVar("RequestT", GenerateRequest, ScoreRequest, NextTokenRequest)
ValueT = TypeVar("ValueT")
ValueT_co = TypeVar("ValueT_co", covariant=True)

_SEEDS = 2**63


@dataclass(frozen=True)
class Encoded(Generic[RequestT]):
    """A request that fits the model's window.

    Attributes:
        index: Its place in the call.
        request: The request.
        prompt: Token ids of the prompt.
        completion: Token ids of the text to score; empty elsewhere.
    """

    index: int
    request: RequestT
    prompt: list[int]
    completion: list[int]

    @property
    def sequences(self) -> int:
        """Sequences that it adds to a batch."""
        return self.request.sampling.n if isinstance(self.request, GenerateRequest) else 1


class BatchWork(Protocol[RequestT, ValueT_co]):
    """Works through one batch; `check` is called between forward passes and raises to end it."""

    def __call__(
        self,
        model: CausalModel,
        batch: Sequence[Encoded[RequestT]],
        settings: EngineSettings,
        check: Callable[[], None],
    ) -> Sequence[ValueT_co]:
        """Returns one value per request, in order."""
        ...


def encode(model: CausalModel, index: int, request: RequestT) -> Encoded[RequestT]:
    """Encodes one request.

    Raises:
        InvalidArgumentError: reason PROMPT_TOO_LONG, or a prompt without tokens, or unknown token ids.
        NotFoundError: reason ADAPTER_NOT_FOUND.
    """
    model.check_adapter(request.adapter)
    prompt = model.encoder.encode_prompt(request.prompt)
    completion: list[int] = []
    if isinstance(request, ScoreRequest):
        completion = model.encoder.encode_completion(request.text, request.add_eos)
    check_length(prompt, completion, model.max_model_len)
    if isinstance(request, NextTokenRequest):
        check_token_ids(request.token_ids, model.config.get_text_config().vocab_size)
    return Encoded(index, request, prompt, completion)


def cut(encoded: Sequence[Encoded[RequestT]], batch_size: int) -> Iterator[list[Encoded[RequestT]]]:
    """Cuts requests, in order, into batches of at most `batch_size` sequences; a request stays whole."""
    batch: list[Encoded[RequestT]] = []
    sequences = 0
    for one in encoded:
        if batch and sequences + one.sequences > batch_size:
            yield batch
            batch, sequences = [], 0
        batch.append(one)
        sequences += one.sequences
    if batch:
        yield batch


def generate_batch(
    model: CausalModel, batch: Sequence[Encoded[GenerateRequest]], settings: EngineSettings, check: Callable[[], None]
) -> list[Generation]:
    """Samples every request; sample i of a request with seed s is drawn with seed s + i."""
    drafts = [
        Draft(place, (one.request.seed + index) % _SEEDS, one.request.sampling)
        for place, one in enumerate(batch)
        for index in range(one.request.sampling.n)
    ]
    samples: list[Sample] = []
    # Only a request that is larger than a batch takes more than one round.
    for start in range(0, len(drafts), max(settings.batch_size, 1)):
        part = drafts[start : start + settings.batch_size]
        first = part[0].prompt
        prompts = [one.prompt for one in batch[first : part[-1].prompt + 1]]
        shifted = [Draft(draft.prompt - first, draft.seed, draft.sampling) for draft in part]
        samples += Decoding(model, prompts, shifted, check).run()
    remaining = iter(samples)
    return [
        Generation(tuple(next(remaining) for _ in range(one.request.sampling.n)), prompt_tokens=len(one.prompt))
        for one in batch
    ]


def score_batch(
    model: CausalModel, batch: Sequence[Encoded[ScoreRequest]], settings: EngineSettings, check: Callable[[], None]
) -> list[TextScore]:
    """Teacher-forces every text, right-padded; parts of the batch run apart when their logits would not fit."""
    scores: list[TextScore] = []
    vocabulary = model.config.get_text_config().vocab_size
    longest = max(len(one.prompt) + len(one.completion) for one in batch)
    budget = settings.score_logits_mib * 2**20 // (4 * vocabulary * longest)
    for start in range(0, len(batch), max(1, budget)):
        check()
        scores += _score_part(model, batch[start : start + max(1, budget)])
    return scores


def _score_part(model: CausalModel, part: Sequence[Encoded[ScoreRequest]]) -> list[TextScore]:
    sequences = [[*one.prompt, *one.completion] for one in part]
    ids, mask, positions = padded(sequences, model.encoder.pad_token_id, left=False, device=model.device)
    # The logits at position i predict token i + 1, so the last prompt token is the first one that counts.
    first = max(0, min(len(one.prompt) for one in part) - 1)
    logits = model.forward(ids, mask, positions, keep=ids.shape[1] - first)[:, :-1]
    targets = ids[:, first + 1 :]
    logprobs = logits.gather(2, targets[:, :, None])[:, :, 0] - logits.logsumexp(dim=-1)
    counted = torch.zeros_like(logprobs)
    for row, one in enumerate(part):
        start = len(one.prompt) - 1 - first
        counted[row, start : start + len(one.completion)] = 1
    sums = torch.where(counted > 0, logprobs, 0.0).double().sum(dim=-1).tolist()
    return [TextScore(total, len(one.completion)) for total, one in zip(sums, part, strict=True)]


def next_token_batch(
    model: CausalModel, batch: Sequence[Encoded[NextTokenRequest]], settings: EngineSettings, check: Callable[[], None]
) -> list[tuple[float, ...]]:
    """Reads the log-probabilities after every prompt; what neighbouring prompts start with is computed once."""
    check()
    prompts = [one.prompt for one in batch]
    found = families(prompts)
    if model.has_full_attention and is_worth_sharing(prompts, found):
        logits = _last_logits_of_families(model, prompts, found, check)
    else:
        logits = _last_logits(model, prompts)
    logprobs = torch.log_softmax(logits, dim=-1)
    return [
        tuple(logprobs[row, torch.tensor(one.request.token_ids, device=model.device)].tolist())
        for row, one in enumerate(batch)
    ]


def _last_logits(model: CausalModel, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Left-padded, so that one position holds every row's last token."""
    ids, mask, positions = padded(prompts, model.encoder.pad_token_id, left=True, device=model.device)
    return model.forward(ids, mask, positions, keep=1)[:, -1]


def _last_logits_of_families(
    model: CausalModel, prompts: Sequence[Sequence[int]], found: Sequence[Family], check: Callable[[], None]
) -> torch.Tensor:
    """Runs each family's shared tokens once, then every prompt's own tokens on top of them."""
    pad_id, device = model.encoder.pad_token_id, model.device
    shared = [prompts[family.start][: family.shared] for family in found]
    own = [prompts[row][family.shared :] for family in found for row in range(family.start, family.end)]
    cache = reserved_cache(model.config, max(map(len, shared)) + max(map(len, own)))
    ids, mask, positions = padded(shared, pad_id, left=True, device=device)
    model.forward(ids, mask, positions, keep=1, cache=cache)
    check()
    family_of_row = [place for place, family in enumerate(found) for _ in range(family.start, family.end)]
    rows = torch.tensor(family_of_row, device=device)
    cache.reorder_cache(rows)
    own_ids, own_mask, own_positions = padded(own, pad_id, left=True, device=device)
    offsets = torch.tensor([found[place].shared for place in family_of_row], device=device)
    return model.forward(
        own_ids, torch.cat([mask[rows], own_mask], dim=-1), own_positions + offsets[:, None], keep=1, cache=cache
    )[:, -1]
