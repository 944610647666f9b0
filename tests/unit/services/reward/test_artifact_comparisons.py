from __future__ import annotations

from pathlib import Path

import pytest

from ilf_common.artifacts import ArtifactStore
from ilf_common.errors import IlfError, InvalidArgumentError, NotFoundError
from services.reward.adapters.artifact_comparisons import ArtifactComparisons


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path))


def test_rows_are_read_with_their_slice(store: ArtifactStore) -> None:
    store.write_bytes("pairs.jsonl", b'{"prompt": "p", "chosen": "x", "rejected": "y", "topic": "t"}\n\n')
    (row,) = ArtifactComparisons(store).read("pairs.jsonl", "topic").rows
    assert (row.context, row.chosen, row.rejected, row.slice) == ("p", "x", "y", "t")


def test_broken_rows_are_named(store: ArtifactStore) -> None:
    store.write_bytes("pairs.jsonl", b'{"prompt": "p", "chosen": "x", "rejected": "y"}\n{\n{"prompt": "p"}\n')
    with pytest.raises(InvalidArgumentError, match=r"row 2: .*row 3: ") as caught:
        ArtifactComparisons(store).read("pairs.jsonl", "")
    assert caught.value.reason == "DATASET_INVALID"


@pytest.mark.parametrize(
    ("uri", "error", "reason"),
    [
        ("none.jsonl", NotFoundError, "DATASET_NOT_FOUND"),
        ("pairs.csv", InvalidArgumentError, "DATASET_INVALID"),
        ("hf://owner/name", InvalidArgumentError, "URI_OUTSIDE_STORE"),
        ("../pairs.jsonl", InvalidArgumentError, "URI_OUTSIDE_STORE"),
    ],
)
def test_what_is_no_dataset_of_the_store_is_refused(
    store: ArtifactStore, uri: str, error: type[IlfError], reason: str
) -> None:
    with pytest.raises(error) as caught:
        ArtifactComparisons(store).read(uri, "")
    assert caught.value.reason == reason
