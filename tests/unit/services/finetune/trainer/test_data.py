from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from ilf_common.artifacts import ArtifactStore
from services.finetune.trainer.data import read_comparisons, read_sft_items
from services.finetune.trainer.outcome import FailureReason, TrainerError

GOOD = {"item_id": "a", "context": "c", "completion": "x"}
PAIR = {"prompt": "p", "chosen": "x", "rejected": "y"}


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path))


def write(store: ArtifactStore, *rows: Any) -> str:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    store.write_bytes("rows.jsonl", "\n".join(lines).encode())
    return "rows.jsonl"


def parquet_bytes(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def refusal(store: ArtifactStore, read: Any, *rows: Any) -> str:
    with pytest.raises(TrainerError) as raised:
        read(store, write(store, *rows))
    assert raised.value.reason is FailureReason.BAD_DATA
    return raised.value.message


def test_rows_are_gathered_by_item_in_the_order_of_their_first_rows(store: ArtifactStore) -> None:
    key = write(
        store,
        {**GOOD, "item_id": "b", "weight": 0.25},
        {**GOOD, "item_id": "a"},
        {**GOOD, "item_id": "b", "weight": 0.75, "completion": "y"},
    )
    items = read_sft_items(store, key)
    assert [(item.id, [row.weight for row in item.rows]) for item in items] == [("b", [0.25, 0.75]), ("a", [1.0])]
    assert [row.number for row in items[0].rows] == [1, 3]


def test_rows_without_weight_in_the_loss_are_left_out(store: ArtifactStore) -> None:
    key = write(store, {**GOOD, "weight": 1.0}, {**GOOD, "weight": 0.0})
    assert [len(item.rows) for item in read_sft_items(store, key)] == [1]


def test_a_directory_is_read_file_by_file_as_its_manifest_says(store: ArtifactStore) -> None:
    store.write_bytes("set/part-00000.parquet", parquet_bytes([{**GOOD, "weight": 1.0}]))
    store.write_bytes("set/part-00001.parquet", parquet_bytes([{**GOOD, "item_id": "b", "weight": None}]))
    store.publish_manifest("set")
    store.write_bytes("set/part-00002.parquet", b"written later, not published")
    assert [item.id for item in read_sft_items(store, "set")] == ["a", "b"]


def test_every_bad_row_is_named_and_no_text_is_shown(store: ArtifactStore) -> None:
    message = refusal(
        store,
        read_sft_items,
        GOOD,
        {**GOOD, "item_id": "b", "completion": None},
        {**GOOD, "item_id": "c", "weight": -1},
        {**GOOD, "item_id": "d", "weight": float("nan")},
        {"item_id": "e", "context": "secret"},
    )
    assert message.startswith("4 problems")
    for part in ("row 2 (item b): completion", "row 3 (item c): weight", "row 4 (item d): weight", "row 5 (item e)"):
        assert part in message
    assert "secret" not in message


def test_weights_that_do_not_sum_to_one_are_refused(store: ArtifactStore) -> None:
    message = refusal(store, read_sft_items, GOOD, GOOD, {**GOOD, "item_id": "b", "weight": 0.5})
    assert "item a: the weights of its 2 rows sum to 2" in message
    assert "item b: the weights of its 1 rows sum to 0.5" in message


@pytest.mark.parametrize("line", ["{", "[1]", "\udcff".encode("utf-8", "surrogateescape").decode("latin-1")])
def test_a_line_that_is_no_object_is_refused(store: ArtifactStore, line: str) -> None:
    assert "row 2" in refusal(store, read_sft_items, GOOD, line)


def test_an_empty_dataset_is_refused(store: ArtifactStore) -> None:
    assert "no rows" in refusal(store, read_sft_items)


def test_what_is_called_parquet_must_be(store: ArtifactStore) -> None:
    store.write_bytes("rows.parquet", b"nonsense")
    with pytest.raises(TrainerError, match="not a Parquet file"):
        read_sft_items(store, "rows.parquet")


def test_pairs_keep_their_margin(store: ArtifactStore) -> None:
    found = read_comparisons(store, write(store, PAIR, {**PAIR, "margin": 0.5}))
    assert [row.margin for row in found.rows] == [0.0, 0.5]


def test_broken_pairs_are_refused_by_row(store: ArtifactStore) -> None:
    message = refusal(
        store,
        read_comparisons,
        PAIR,
        {"prompt": " ", "chosen": "x", "rejected": "y"},
        {"prompt": "p", "chosen": "x"},
        {**PAIR, "margin": "big"},
        {**PAIR, "margin": float("inf")},
    )
    assert message.startswith("4 problems")
    for part in ("row 2: prompt is empty", "row 3: rejected", "row 4: margin", "row 5: margin"):
        assert part in message


def test_only_the_first_problems_are_listed(store: ArtifactStore) -> None:
    message = refusal(store, read_comparisons, *[{**PAIR, "rejected": 1}] * 50)
    assert message.startswith("50 problems")
    assert "row 20:" in message and "row 21:" not in message and "and 30 more" in message
