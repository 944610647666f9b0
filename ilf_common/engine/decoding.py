"""Samples a batch token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from ilf_common.engine.causal_model import CausalModel, padded
from ilf_common.engine.key_value_cache import reserved_cache
from ilf_common.engine.port import FinishReason, Sample, Sampling
from ilf_common.engine.sampling import UniformStreams, sample_tokens


@dataclass(frozen=True)
class Draft:
    """One sample to draw.

    Attributes:
        prompt: Index of its prompt in the batch.
        seed: Of its random stream.
        sampling: How to draw it.
    """

    prompt: int
    seed: int
    sampling: Sampling


@dataclass
class _Row:
    draft: Draft
    limit: int
    ids: list[int] = field(default_factory=list)
    logprob: float = 0.0
    finish_reason: FinishReason | None = None
    stopped_by: str | None = None


class Decoding:
    """Draws all samples of a batch; each distinct prompt is prefilled once.

    Args:
        model: The model.
        prompts: Token ids of the prompts.
        drafts: The samples to draw.
        check: Called before every forward pass; raises to end the work.
    """

    def __init__(
        self, model: CausalModel, prompts: Sequence[Sequence[int]], drafts: Sequence[Draft], check: Callable[[], None]
    ) -> None:
        self._model = model
        self._prompts = prompts
        self._check = check
        self._rows = [
            _Row(draft, min(draft.sampling.max_new_tokens, model.max_model_len - len(prompts[draft.prompt])))
            for draft in drafts
        ]

    def run(self) -> list[Sample]:
        """Returns the samples in the order of the drafts."""
        self._prefill()
        active = self._rows
        while True:
            self._draw_tokens(active)
            alive = [index for index, row in enumerate(active) if row.finish_reason is None]
            if not alive:
                return self._samples()
            # Dropping rows copies the whole cache, so it pays only when many have ended.
            if 2 * len(alive) <= len(active):
                active = [active[index] for index in alive]
                self._keep(alive)
            self._check()
            self._extend(active)

    def _prefill(self) -> None:
        self._check()
        device = self._model.device
        limit = max(map(len, self._prompts)) + max(row.limit for row in self._rows)
        self._cache = reserved_cache(self._model.config, limit)
        ids, self._mask, positions = padded(self._prompts, self._model.encoder.pad_token_id, left=True, device=device)
        logits = self._model.forward(ids, self._mask, positions, keep=1, cache=self._cache)
        prompt_of_row = torch.tensor([row.draft.prompt for row in self._rows], device=device)
        self._cache.reorder_cache(prompt_of_row)
        self._logits = logits[prompt_of_row, -1]
        self._mask = self._mask[prompt_of_row]
        self._position = positions[prompt_of_row, -1:]
        sampling = [row.draft.sampling for row in self._rows]
        self._temperature = torch.tensor([one.temperature for one in sampling], dtype=torch.float32, device=device)
        self._top_p = torch.tensor([one.top_p for one in sampling], dtype=torch.float32, device=device)
        self._uniforms = UniformStreams([row.draft.seed for row in self._rows])

    def _draw_tokens(self, active: list[_Row]) -> None:
        uniforms = self._uniforms.next().to(self._model.device)
        self._tokens = sample_tokens(self._logits, self._temperature, self._top_p, uniforms)
        chosen = self._logits.gather(1, self._tokens[:, None])[:, 0]
        logprobs = (chosen - self._logits.logsumexp(dim=-1)).tolist()
        for row, token, logprob in zip(active, self._tokens.tolist(), logprobs, strict=True):
            if row.finish_reason is None:
                row.ids.append(token)
                row.logprob += logprob
                self._finish(row, token)

    def _finish(self, row: _Row, token: int) -> None:
        if token in self._model.stop_token_ids:
            row.finish_reason = FinishReason.STOP
        elif row.draft.sampling.stop and (stop := self._stop_string(row)) is not None:
            row.finish_reason, row.stopped_by = FinishReason.STOP, stop
        elif len(row.ids) >= row.limit:
            row.finish_reason = FinishReason.LENGTH

    def _stop_string(self, row: _Row) -> str | None:
        """The stop string that the newest token has completed; it can only lie in the last few tokens."""
        stops = row.draft.sampling.stop
        window = max(len(stop.encode()) for stop in stops) + 4
        tail = self._model.encoder.decode([row.ids[-window:]])[0]
        return next((stop for stop in stops if stop in tail), None)

    def _keep(self, alive: list[int]) -> None:
        rows = torch.tensor(alive, device=self._model.device)
        self._cache.reorder_cache(rows)
        self._tokens, self._mask, self._position = self._tokens[rows], self._mask[rows], self._position[rows]
        self._temperature, self._top_p = self._temperature[rows], self._top_p[rows]
        self._uniforms.keep(alive)

    def _extend(self, active: list[_Row]) -> None:
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(active), 1)], dim=-1)
        self._position = self._position + 1
        logits = self._model.forward(self._tokens[:, None], self._mask, self._position, keep=1, cache=self._cache)
        self._logits = logits[:, -1]

    def _samples(self) -> list[Sample]:
        stop_ids = self._model.stop_token_ids
        texts = self._model.encoder.decode([row.ids[:-1] if row.ids[-1] in stop_ids else row.ids for row in self._rows])
        return [_sample(row, text) for row, text in zip(self._rows, texts, strict=True)]


def _sample(row: _Row, text: str) -> Sample:
    if row.stopped_by is not None:
        text = text[: min(text.find(stop) for stop in row.draft.sampling.stop if stop in text)]
    reason = row.finish_reason or FinishReason.LENGTH
    return Sample(text=text, token_count=len(row.ids), finish_reason=reason, logprob=row.logprob)
