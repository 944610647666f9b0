"""Draws next tokens: greedy, temperature and nucleus sampling with a random stream of its own for every row."""

from __future__ import annotations

import numpy as np
import torch

_SHORT_LIST = 64
_BLOCK = 64


class UniformStreams:
    """Uniform random numbers in [0, 1), one stream per row, so that no row's samples depend on its neighbours.

    Args:
        seeds: One per row, 64 bits.
    """

    def __init__(self, seeds: list[int]) -> None:
        self._generators = [np.random.Generator(np.random.Philox(key=seed % 2**64)) for seed in seeds]
        self._block = np.empty((len(seeds), 0), dtype=np.float32)
        self._used = 0

    def next(self) -> torch.Tensor:
        """The next number of every row, shape (rows,)."""
        if self._used == self._block.shape[1]:
            self._block = np.stack([generator.random(_BLOCK, dtype=np.float32) for generator in self._generators])
            self._used = 0
        self._used += 1
        return torch.from_numpy(self._block[:, self._used - 1].copy())

    def keep(self, rows: list[int]) -> None:
        """Forgets all rows but these."""
        self._generators = [self._generators[row] for row in rows]
        self._block = self._block[rows]


def sample_tokens(
    logits: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor, uniforms: torch.Tensor
) -> torch.Tensor:
    """Draws one token per row from the nucleus of softmax(logits / temperature).

    The nucleus is the smallest set of most likely tokens whose mass reaches `top_p` (Holtzman et al. 2020).

    Args:
        logits: Shape (rows, vocabulary).
        temperature: Shape (rows,); 0 takes the most likely token.
        top_p: Shape (rows,), in (0, 1].
        uniforms: Shape (rows,), in [0, 1).

    Returns:
        Token ids, shape (rows,).
    """
    greedy = temperature == 0
    if bool(greedy.all()):
        return logits.argmax(dim=-1)
    divisor = torch.where(greedy, torch.ones_like(temperature), temperature)
    probabilities = torch.softmax(logits / divisor[:, None], dim=-1)
    # A short list of the likeliest tokens nearly always holds the whole nucleus and spares sorting the vocabulary.
    mass, ids = probabilities.topk(min(_SHORT_LIST, logits.shape[-1]), dim=-1)
    tokens = _draw(mass, ids, top_p, uniforms)
    beyond = (mass.sum(dim=-1) < top_p) & ~greedy
    if bool(beyond.any()):
        sorted_mass, sorted_ids = probabilities[beyond].sort(dim=-1, descending=True)
        tokens[beyond] = _draw(sorted_mass, sorted_ids, top_p[beyond], uniforms[beyond])
    return torch.where(greedy, ids[:, 0], tokens)


def _draw(mass: torch.Tensor, ids: torch.Tensor, top_p: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Inverts the cumulative distribution of the nucleus; `mass` is sorted, the likeliest token first."""
    cumulative = mass.double().cumsum(dim=-1)
    inside = (cumulative - mass) < top_p[:, None]
    nucleus_size = inside.sum(dim=-1)
    nucleus_mass = cumulative.gather(1, nucleus_size[:, None] - 1)
    index = (cumulative <= uniforms[:, None] * nucleus_mass).sum(dim=-1)
    return ids.gather(1, torch.minimum(index, nucleus_size - 1)[:, None])[:, 0]
