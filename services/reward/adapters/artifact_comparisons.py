"""Comparisons in the artifact store."""

from __future__ import annotations

from contextlib import closing

from ilf_common.artifacts import ArtifactStore
from ilf_common.datasets.reader import raw_rows
from ilf_common.errors import FieldViolation, InvalidArgumentError
from ilf_common.rewards.comparisons import Comparisons, parse_comparisons

_FIELD = "dataset_uri"
_MAX_NAMED = 20


class ArtifactComparisons:
    """Files below the store's root.

    Args:
        store: Where datasets lie.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def read(self, uri: str, slice_column: str) -> Comparisons:
        """The comparisons of a `.jsonl` or `.parquet` file."""
        key = self._store.resolve(uri, field=_FIELD)
        with closing(raw_rows(self._store, key, field=_FIELD)) as rows:
            found = parse_comparisons(
                ((number, {} if isinstance(row, str) else row) for number, row in enumerate(rows, start=1)),
                slice_column=slice_column,
            )
        if found.problems:
            shown = "; ".join(found.problems[:_MAX_NAMED])
            raise InvalidArgumentError(
                f"{len(found.problems)} rows of {uri} are no comparisons: {shown}",
                violations=[FieldViolation(_FIELD, shown)],
                reason="DATASET_INVALID",
            )
        return found
