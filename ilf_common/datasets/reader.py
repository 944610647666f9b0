"""Reads JSONL, Parquet and Hugging Face datasets row by row; memory does not grow with their size."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ilf_common.artifacts import ArtifactStore
from ilf_common.datasets.schema import ColumnMap, DatasetRow, RowError, column_names, parse_row
from ilf_common.datasets.unique import DiskSet
from ilf_common.errors import InvalidArgumentError, NotFoundError

_BATCH = 1024
_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
Raw = Mapping[str, Any] | str
"""A row's values by column, or why the row cannot be read."""


@dataclass(frozen=True)
class Dataset:
    """A dataset that was looked at and can be read, as often as wanted.

    Attributes:
        uri: As it was given.
        columns: The columns that hold the fields.
    """

    uri: str
    columns: ColumnMap
    needs: frozenset[str]
    store: ArtifactStore

    def rows(self) -> Iterator[DatasetRow | RowError]:
        """Every row in order: usable, or with what is wrong with it (a repeated id is wrong the second time)."""
        with DiskSet() as seen, closing(raw_rows(self.store, self.uri)) as rows:
            for number, raw in enumerate(rows, start=1):
                if isinstance(raw, str):
                    yield RowError(number, f"row-{number}", "", raw)
                    continue
                row = parse_row(number, raw, self.columns, self.needs)
                if isinstance(row, DatasetRow):
                    first = seen.add(row.id, str(number))
                    if first is not None:
                        row = RowError(number, row.id, self.columns.id, f"repeats the id of row {first}")
                yield row


def open_dataset(store: ArtifactStore, uri: str, *, columns: ColumnMap, needs: frozenset[str], field: str) -> Dataset:
    """Looks at a dataset's first readable row and settles its columns.

    Args:
        store: Where URIs other than `hf://` lie.
        uri: A `.jsonl`, `.json` or `.parquet` file of the store, or `hf://owner/name[:config]?split=train` for a
            Hugging Face dataset, loaded with `datasets` as that library is configured.
        columns: The caller's names.
        needs: Fields without which a row is of no use.
        field: Name of the request's field, for errors.

    Raises:
        NotFoundError: reason DATASET_NOT_FOUND.
        InvalidArgumentError: reason DATASET_INVALID; no rows, unknown file type, or columns missing.
    """
    with closing(raw_rows(store, uri, field=field)) as rows:
        first = next((row for row in rows if not isinstance(row, str)), None)
    if first is None:
        raise InvalidArgumentError.of(field, f"{uri} holds no readable row", reason="DATASET_INVALID")
    present = frozenset(first)
    chosen = column_names(columns, present)
    missing = sorted(getattr(chosen, name) for name in needs | {"context"} if getattr(chosen, name) not in present)
    if missing:
        raise InvalidArgumentError.of(
            field, f"{uri} lacks the columns {missing}; it has {sorted(present)}", reason="DATASET_INVALID"
        )
    return Dataset(uri, chosen, needs, store)


def raw_rows(store: ArtifactStore, uri: str, *, field: str = "uri") -> Generator[Raw, None, None]:
    """Every row as it stands there; arguments and errors as in `open_dataset`. Close it when done."""
    if uri.startswith("hf://"):
        return _hub_rows(uri, field)
    key = store.resolve(uri, field=field)
    readers = {".jsonl": _jsonl_rows, ".json": _jsonl_rows, ".parquet": _parquet_rows}
    for suffix, reader in readers.items():
        if key.endswith(suffix):
            if not store.exists(key):
                raise NotFoundError(
                    f"{field}: there is no dataset {uri} in the artifact store.",
                    resource_type="dataset",
                    resource_name=uri,
                    reason="DATASET_NOT_FOUND",
                )
            return reader(store, key)
    raise InvalidArgumentError.of(field, f"{uri} must end in one of {sorted(readers)}", reason="DATASET_INVALID")


def _jsonl_rows(store: ArtifactStore, key: str) -> Generator[Raw, None, None]:
    with store.open(key) as stream:
        for line in stream:
            if not line.strip():
                continue
            try:
                value = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError:
                yield "is not valid UTF-8"
            except ValueError:
                yield "is not valid JSON"
            else:
                yield value if isinstance(value, dict) else "is not a JSON object"


def _parquet_rows(store: ArtifactStore, key: str) -> Generator[Raw, None, None]:
    import pyarrow.parquet as parquet
    from pyarrow import ArrowInvalid

    with store.open(key) as stream:
        try:
            file = parquet.ParquetFile(stream)
        except ArrowInvalid as error:
            raise InvalidArgumentError.of("uri", f"{key} is not a Parquet file", reason="DATASET_INVALID") from error
        for batch in file.iter_batches(batch_size=_BATCH):
            yield from batch.to_pylist()


def _hub_rows(uri: str, field: str) -> Generator[Raw, None, None]:
    import datasets

    parts = urlsplit(uri)
    name, _, config = f"{parts.netloc}{parts.path}".partition(":")
    # `load_dataset` prefers a folder of that name on this machine, and files of the server are no client's to read.
    if not _HUB_NAME.fullmatch(name) or Path(name).exists():
        raise InvalidArgumentError.of(
            field, f"{name!r} is no name of a Hugging Face dataset (owner/name)", reason="DATASET_INVALID"
        )
    split = parse_qs(parts.query).get("split", ["train"])[0]
    try:
        rows = datasets.load_dataset(name, config or None, split=split, streaming=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise NotFoundError(
            f"{field}: the Hugging Face dataset {name} (split {split}) cannot be loaded: {type(error).__name__}.",
            resource_type="dataset",
            resource_name=uri,
            reason="DATASET_NOT_FOUND",
        ) from error
    yield from rows
