import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ilf_common.artifacts import ArtifactStore
from ilf_common.datasets import ColumnMap, Dataset, DatasetRow, DiskSet, RowError, open_dataset
from ilf_common.errors import InvalidArgumentError, NotFoundError


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path))


def read(store: ArtifactStore, content: bytes, *needs: str, columns: ColumnMap = ColumnMap()) -> Dataset:  # noqa: B008
    store.write_bytes("d.jsonl", content)
    return open_dataset(store, "d.jsonl", columns=columns, needs=frozenset(needs), field="dataset.train_uri")


def jsonl(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def test_rows_are_read_in_order_with_numbered_ids_where_there_are_none(store: ArtifactStore) -> None:
    dataset = read(store, jsonl({"context": "a"}, {"context": "b", "reference": "r"}))
    assert list(dataset.rows()) == [DatasetRow("row-1", "a"), DatasetRow("row-2", "b", reference="r")]


def test_a_bad_row_fails_alone_and_says_which_field(store: ArtifactStore) -> None:
    content = (
        jsonl({"id": "a", "context": "x", "feedback": "f"})
        + b'\xff{"id"}\n'
        + b"[1]\n{oops\n"
        + jsonl({"id": "a", "context": "y", "feedback": "f"}, {"id": "b", "context": " ", "feedback": "f"})
        + jsonl({"id": "c", "context": "z"}, {"id": "d", "context": 3, "feedback": "f"})
    )
    rows = list(read(store, content, "feedback").rows())
    assert [(row.row, row.field, row.message) for row in rows if isinstance(row, RowError)] == [
        (2, "", "is not valid UTF-8"),
        (3, "", "is not a JSON object"),
        (4, "", "is not valid JSON"),
        (5, "id", "repeats the id of row 1"),
        (6, "context", "is empty"),
        (7, "feedback", "is missing"),
        (8, "context", "must be text, not int"),
    ]
    assert rows[0] == DatasetRow("a", "x", feedback="f")


def test_missing_columns_refuse_the_dataset_and_name_what_is_there(store: ArtifactStore) -> None:
    with pytest.raises(InvalidArgumentError, match=r"lacks the columns \['feedback'\]; it has \['text'\]") as caught:
        read(store, jsonl({"text": "a"}), "feedback", columns=ColumnMap(context="text"))
    assert caught.value.reason == "DATASET_INVALID"
    assert caught.value.violations[0].field == "dataset.train_uri"


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\n"])
def test_an_empty_dataset_is_refused(store: ArtifactStore, content: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match="no readable row"):
        read(store, content)


def test_an_unknown_file_type_and_a_missing_file_are_told_apart(store: ArtifactStore) -> None:
    with pytest.raises(InvalidArgumentError, match=r"must end in one of"):
        open_dataset(store, "d.csv", columns=ColumnMap(), needs=frozenset(), field="f")
    with pytest.raises(NotFoundError) as caught:
        open_dataset(store, "none.jsonl", columns=ColumnMap(), needs=frozenset(), field="f")
    assert caught.value.reason == "DATASET_NOT_FOUND"


def test_slf5k_rows_are_understood_as_they_are(store: ArtifactStore) -> None:
    row = {
        "id": "t3_1",
        "subreddit": "pets",
        "title": "My cat",
        "post": "It sleeps.",
        "generated_summary_for_feedback": "A cat.",
        "feedback": "Say that it sleeps.",
        "ideal_human_summary": "A cat sleeps.",
    }
    (read_row,) = read(store, jsonl(row), "feedback", "initial_output").rows()
    assert read_row == DatasetRow(
        "t3_1",
        "Subreddit: r/pets\nTitle: My cat\nText: It sleeps.",
        "A cat.",
        "Say that it sleeps.",
        "A cat sleeps.",
    )


def test_parquet_reads_as_jsonl_does(store: ArtifactStore) -> None:
    rows = [{"id": str(i), "context": f"c{i}", "feedback": "f"} for i in range(3000)]
    store.write("d.parquet", lambda stream: pq.write_table(pa.Table.from_pylist(rows), stream))
    parquet = open_dataset(store, "d.parquet", columns=ColumnMap(), needs=frozenset(["feedback"]), field="f")
    assert list(parquet.rows()) == list(read(store, jsonl(*rows), "feedback").rows())


def test_a_hub_dataset_is_read_by_name_config_and_split(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(name: str, config: str | None, *, split: str, streaming: bool) -> list[dict[str, str]]:
        asked.append((name, config, split, streaming))
        return [{"id": "a", "context": "x"}]

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    uri = "hf://owner/name:config?split=validation"
    dataset = open_dataset(store, uri, columns=ColumnMap(), needs=frozenset(), field="f")
    assert list(dataset.rows()) == [DatasetRow("a", "x")]
    assert set(asked) == {("owner/name", "config", "validation", True)}


@pytest.mark.parametrize("name", ["/etc", "../secrets", "owner/../..", "a/b/c", "", "folder"])
def test_a_hub_name_never_reads_a_folder_of_the_server(
    store: ArtifactStore, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidArgumentError) as caught:
        open_dataset(store, f"hf://{name}", columns=ColumnMap(), needs=frozenset(), field="dataset.train_uri")
    assert caught.value.reason == "DATASET_INVALID"
    assert caught.value.violations[0].field == "dataset.train_uri"


def test_a_disk_set_remembers_the_first_note() -> None:
    with DiskSet() as seen:
        assert seen.add("a", "1") is None
        assert seen.add("b", "2") is None
        assert seen.add("a", "3") == "1"
