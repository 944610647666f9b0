"""A KV cache that does not copy itself at every step."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

_LEAST_GROWTH = 64


class ReservedLayer(DynamicLayer):  # type: ignore[misc]  # transformers is untyped here
    """A full-attention layer that writes into memory reserved ahead.

    `DynamicLayer` concatenates, and so copies the whole cache for every new token.

    Args:
        limit: Most positions that will ever be written; no more than these are reserved.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._length = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Takes type, device and shape from the first states."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys = key_states[:, :, :0]
        self.values = value_states[:, :, :0]
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends new positions and returns all of them as views."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, end = self._length, self._length + key_states.shape[-2]
        if end > self.keys.shape[-2]:
            capacity = min(self._limit, end + max(_LEAST_GROWTH, end // 2))
            self.keys = self._copied(self.keys, capacity)
            self.values = self._copied(self.values, capacity)
        self.keys[:, :, start:end] = key_states
        self.values[:, :, start:end] = value_states
        self._length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        """Positions written so far."""
        return self._length

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Keeps (or repeats) the rows at these indices, in this order."""
        rows = beam_idx.to(self.keys.device)
        self.keys = self._copied(self.keys, self.keys.shape[-2], rows)
        self.values = self._copied(self.values, self.values.shape[-2], rows)

    def _copied(self, old: torch.Tensor, capacity: int, rows: torch.Tensor | None = None) -> torch.Tensor:
        batch, heads, _, size = old.shape
        new = old.new_empty(batch if rows is None else rows.shape[0], heads, capacity, size)
        written = old[:, :, : self._length]
        new[:, :, : self._length] = written if rows is None else written.index_select(0, rows)
        return new


def reserved_cache(config: Any, limit: int) -> Any:
    """A cache for at most `limit` positions; layers other than full attention stay as the model's class has them."""
    cache = DynamicCache(config=config)
    cache.layers = [ReservedLayer(limit) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def is_fully_reserved(cache: Any) -> bool:
    """Tells whether all layers are full attention."""
    return bool(cache.layers) and all(isinstance(layer, ReservedLayer) for layer in cache.layers)
