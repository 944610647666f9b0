"""How items and pairs become batches of tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler

from services.finetune.trainer.encoding import IGNORED, EncodedItem, EncodedPair, EncodedRow

Batch = dict[str, torch.Tensor]


class ItemCollator:
    """Puts the rows of some items under one another, padded on the right to the longest.

    Args:
        pad_token_id: Fills `input_ids`; the attention mask hides it.
    """

    def __init__(self, pad_token_id: int) -> None:
        self._pad_token_id = pad_token_id

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> Batch:
        """Returns `input_ids`, `attention_mask`, `labels` and `loss_weights`, each (rows, longest)."""
        input_ids = [row for item in items for row in item["input_ids"]]
        return {
            "input_ids": _pad(input_ids, self._pad_token_id, torch.long),
            "attention_mask": _pad([[1] * len(row) for row in input_ids], 0, torch.long),
            "labels": _pad([row for item in items for row in item["labels"]], IGNORED, torch.long),
            "loss_weights": _pad([row for item in items for row in item["loss_weights"]], 0.0, torch.float32),
        }


class PairCollator:
    """Puts all chosen sequences above all rejected ones, padded on the right to the longest.

    Args:
        pad_token_id: Of its own: a classification head reads the last token that is not this one.
    """

    def __init__(self, pad_token_id: int) -> None:
        self._pad_token_id = pad_token_id

    def __call__(self, pairs: Sequence[Mapping[str, Any]]) -> Batch:
        """Returns `input_ids`, `attention_mask`: (2 pairs, longest), and `margins`, `pair_weights`: (pairs)."""
        input_ids = [pair["chosen"] for pair in pairs] + [pair["rejected"] for pair in pairs]
        return {
            "input_ids": _pad(input_ids, self._pad_token_id, torch.long),
            "attention_mask": _pad([[1] * len(row) for row in input_ids], 0, torch.long),
            "margins": torch.tensor([pair["margin"] for pair in pairs], dtype=torch.float32),
            "pair_weights": torch.tensor([pair["weight"] for pair in pairs], dtype=torch.float32),
        }


def _pad(rows: Sequence[Sequence[float]], value: float, dtype: torch.dtype) -> torch.Tensor:
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows], dtype=dtype)


class EpochSampler(Sampler[int]):
    """Visits every item once an epoch, in an order that follows from seed and epoch alone.

    The dataset's last row is a weightless filler. It evens out the last batches, so that every process has as many,
    and no item counts twice, which accelerate's own way of filling up would do.

    Args:
        items: Real items, at the indices before the filler.
        group: Items that all processes see at once; the epoch is filled up to a multiple of it.
        seed: Of the order.
    """

    def __init__(self, items: int, group: int, seed: int) -> None:
        self._items = items
        self._fillers = -items % group
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Items and fillers of one epoch."""
        return self._items + self._fillers

    def __iter__(self) -> Iterator[int]:
        """Indices of one epoch, fillers last."""
        generator = torch.Generator()
        generator.manual_seed((self._seed * 1_000_003 + self._epoch) % 2**63)
        yield from torch.randperm(self._items, generator=generator).tolist()
        yield from [self._items] * self._fillers


def item_columns(items: Sequence[EncodedItem], pad_token_id: int) -> dict[str, list[Any]]:
    """The items as columns of a dataset, the filler last."""
    filler = EncodedItem((EncodedRow([pad_token_id] * 2, [IGNORED] * 2, [0.0] * 2),))
    rows = [item.rows for item in (*items, filler)]
    return {
        "input_ids": [[row.input_ids for row in item] for item in rows],
        "labels": [[row.labels for row in item] for item in rows],
        "loss_weights": [[row.loss_weights for row in item] for item in rows],
    }


def pair_rows(pairs: Sequence[EncodedPair]) -> list[dict[str, Any]]:
    """The pairs as rows of a dataset, the filler last."""
    rows: list[dict[str, Any]] = [
        {"chosen": pair.chosen, "rejected": pair.rejected, "margin": pair.row.margin, "weight": 1.0} for pair in pairs
    ]
    return [*rows, {**rows[0], "weight": 0.0}]
