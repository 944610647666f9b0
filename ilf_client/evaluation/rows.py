"""The rows that are evaluated, part by part, and what was wrong with the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from ilf_client.models.specs import ColumnMap
from ilf_common.artifacts import ArtifactStore
from ilf_common.datasets import ColumnMap as Columns
from ilf_common.datasets import Dataset, DatasetRow, open_dataset
from ilf_common.errors import NotFoundError

PART_ROWS = 64


@dataclass(frozen=True)
class Part:
    """Some rows, in the dataset's order."""

    index: int
    rows: tuple[DatasetRow, ...]


class RowReader:
    """Reads a dataset as often as wanted; memory does not grow with it.

    Args:
        uri: A `.jsonl`, `.json` or `.parquet` file of this machine, or `hf://owner/name`.
        columns: Its columns, where they have other names.
        limit: Only so many usable rows.

    Attributes:
        dropped: Unusable rows by what was wrong with them, as the last reading met them.

    Raises:
        NotFoundError: reason DATASET_NOT_FOUND.
        InvalidArgumentError: reason DATASET_INVALID; it has no rows, or lacks a column.
    """

    def __init__(self, uri: str, columns: ColumnMap | None = None, limit: int | None = None) -> None:
        self._uri = uri
        self._given = columns
        self._limit = limit
        self._dataset = _open(uri, columns)
        self.dropped: Counter[str] = Counter()

    def parts(self) -> Iterator[Part]:
        """All usable rows in parts of `PART_ROWS`."""
        self.dropped.clear()
        rows = islice(_usable(self._dataset, self.dropped), self._limit)
        index = 0
        while chunk := tuple(islice(rows, PART_ROWS)):
            yield Part(index, chunk)
            index += 1

    def column(self, name: str) -> Iterator[tuple[str, str]]:
        """Ids and texts of a column, whatever its name; rows without a text there are left out.

        Raises:
            InvalidArgumentError: reason DATASET_INVALID; there is no such column.
        """
        given = self._given or ColumnMap()
        field = name if name in ("initial_output", "feedback") else "reference"
        if name not in ("initial_output", "feedback", "reference"):
            given = ColumnMap(**{**asdict(given), "reference": name})
        dataset = _open(self._uri, given, needs=frozenset({field}))
        for row in _usable(dataset, Counter()):
            yield row.id, getattr(row, field)


def _usable(dataset: Dataset, dropped: Counter[str]) -> Iterator[DatasetRow]:
    for row in dataset.rows():
        if isinstance(row, DatasetRow):
            yield row
        else:
            dropped[f"{row.field}: {row.message}" if row.field else row.message] += 1


def _open(uri: str, columns: ColumnMap | None, needs: frozenset[str] = frozenset()) -> Dataset:
    names = Columns(**{field: name for field, name in asdict(columns or ColumnMap()).items() if name})
    if "://" in uri:
        return open_dataset(ArtifactStore("."), uri, columns=names, needs=needs, field="dataset")
    path = Path(uri).resolve()
    if not path.is_file():
        raise NotFoundError(
            f"dataset: there is no file {uri}.",
            resource_type="dataset",
            resource_name=uri,
            reason="DATASET_NOT_FOUND",
        )
    store = ArtifactStore(str(path.parent))
    return open_dataset(store, path.name, columns=names, needs=needs, field="dataset")
