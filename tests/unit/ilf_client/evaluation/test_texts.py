"""Texts on disk, read by id."""

from __future__ import annotations

from pathlib import Path

import pytest

from ilf_client.evaluation.rows import PART_ROWS, RowReader
from ilf_client.evaluation.texts import TextMap
from ilf_client.models.specs import ColumnMap
from ilf_common.errors import InvalidArgumentError


def test_texts_are_found_by_id_and_strangers_are_left_out() -> None:
    texts = TextMap(((f"r{k}", f"text {k}") for k in range(1000)), "file")
    assert texts.of(["r7", "r999", "nobody"]) == {"r7": "text 7", "r999": "text 999"}
    assert texts.of([]) == {}


def test_an_id_that_is_there_twice_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="'a' is there twice"):
        TextMap([("a", "x"), ("a", "y")], "file")


def test_rows_come_in_parts_and_columns_by_any_name(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"key": "k{k}", "context": "c", "best": "b{k}"}}\n' for k in range(PART_ROWS + 3)))
    rows = RowReader(str(path), ColumnMap(id="key"))
    assert [(part.index, len(part.rows)) for part in rows.parts()] == [(0, PART_ROWS), (1, 3)]
    assert list(rows.column("best"))[-1] == (f"k{PART_ROWS + 2}", f"b{PART_ROWS + 2}")
    assert [len(part.rows) for part in RowReader(str(path), limit=5).parts()] == [5]
    with pytest.raises(InvalidArgumentError, match="lacks the columns"):
        list(rows.column("feedback"))


def test_a_link_to_a_dataset_is_read(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.jsonl").write_text('{"context": "c"}\n')
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "real" / "a.jsonl")
    assert [row.context for part in RowReader(str(tmp_path / "link.jsonl")).parts() for row in part.rows] == ["c"]
