from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ilf_client import DatasetSpec, InvalidArgumentError, RunSpec
from ilf_client.publishing import count_rows, find_local_datasets, publish_datasets
from ilf_common.artifacts import ArtifactStore


def spec_with(**uris: Any) -> RunSpec:
    return RunSpec(dataset=DatasetSpec(**uris))


def test_local_files_are_published_under_their_content(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"context": "a"}\n\n{"context": "b"}\n')
    store = ArtifactStore(str(tmp_path / "store"))
    spec = spec_with(train_uri="train.jsonl", dev_uri="hf://some/set", test_uri="datasets/there.jsonl")
    found = find_local_datasets(spec, tmp_path)
    assert [dataset.field for dataset in found] == ["train_uri"]
    sent = publish_datasets(spec, found, store)
    assert store.read_bytes(sent.dataset.train_uri) == (tmp_path / "train.jsonl").read_bytes()
    assert sent.dataset.train_uri.startswith("datasets/") and sent.dataset.train_uri.endswith(".jsonl")
    assert (sent.dataset.dev_uri, sent.dataset.test_uri) == ("hf://some/set", "datasets/there.jsonl")
    assert publish_datasets(spec, found, store) == sent
    assert count_rows(tmp_path / "train.jsonl") == 2


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a,b")
    with pytest.raises(InvalidArgumentError, match=r"dataset\.train_uri"):
        find_local_datasets(spec_with(train_uri="train.csv"), tmp_path)


def test_parquet_rows_are_counted(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    parquet.write_table(pa.table({"context": ["a", "b", "c"]}), tmp_path / "rows.parquet")
    assert count_rows(tmp_path / "rows.parquet") == 3
