from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from ilf_common.rewards.comparisons import Comparison  # noqa: E402
from services.finetune.trainer.batching import (  # noqa: E402
    EpochSampler,
    ItemCollator,
    PairCollator,
    item_columns,
    pair_rows,
)
from services.finetune.trainer.encoding import IGNORED, EncodedItem, EncodedPair, EncodedRow  # noqa: E402


@given(items=st.integers(1, 60), group=st.integers(1, 16), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 5))
@settings(max_examples=60)
def test_an_epoch_visits_every_item_once_and_fills_up_with_the_filler(
    items: int, group: int, seed: int, epoch: int
) -> None:
    sampler = EpochSampler(items, group, seed)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert len(order) == len(sampler) and len(order) % group == 0 and len(order) - items < group
    assert sorted(order[:items]) == list(range(items))
    assert set(order[items:]) <= {items}
    assert list(sampler) == order


def test_epochs_differ_and_seeds_differ() -> None:
    orders = []
    for seed in (0, 1):
        sampler = EpochSampler(50, 1, seed)
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            orders.append(tuple(sampler))
    assert len(set(orders)) == 4


def test_rows_of_an_item_stay_together_and_padding_has_no_weight() -> None:
    two = EncodedItem(
        (EncodedRow([5, 6, 7], [IGNORED, 6, 7], [0, 0.5, 0.5]), EncodedRow([5, 8], [IGNORED, 8], [0, 0.5]))
    )
    one = EncodedItem((EncodedRow([9], [9], [1.0]),))
    columns = item_columns([two, one], pad_token_id=3)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    assert len(rows) == 3
    batch = ItemCollator(3)(rows[:2])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, 8, 3], [9, 3, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 6, 7], [IGNORED, 8, IGNORED], [9, IGNORED, IGNORED]]
    assert batch["loss_weights"].tolist() == [[0, 0.5, 0.5], [0, 0.5, 0], [1, 0, 0]]
    assert ItemCollator(3)(rows[2:])["loss_weights"].sum() == 0


def test_chosen_texts_lie_above_rejected_ones() -> None:
    rows = pair_rows(
        [
            EncodedPair(Comparison(1, "c", "x", "y", margin=0.5), [1, 2], [1]),
            EncodedPair(Comparison(2, "c", "x", "y"), [3], [4, 4, 4]),
        ]
    )
    batch = PairCollator(9)(rows)
    assert batch["input_ids"].tolist() == [[1, 2, 9], [3, 9, 9], [1, 2, 9], [1, 9, 9], [4, 4, 4], [1, 9, 9]]
    assert batch["pair_weights"].tolist() == [1, 1, 0]
    assert batch["margins"].tolist() == [0.5, 0.0, 0.5]
