"""Texts by id that stay on disk, so that outputs of any number are joined with the rows they belong to."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ilf_common.errors import InvalidArgumentError, NotFoundError


class TextMap:
    """Texts by id in a temporary file that goes with the object.

    Args:
        texts: Pairs of id and text.
        field: Where they are from, for errors.

    Raises:
        InvalidArgumentError: An id is there twice.
    """

    def __init__(self, texts: Iterable[tuple[str, str]], field: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ilf-")
        self._database = sqlite3.connect(f"{self._folder.name}/texts.sqlite")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE texts (id TEXT PRIMARY KEY, text TEXT) WITHOUT ROWID")
        for item_id, text in texts:
            if self._database.execute("INSERT OR IGNORE INTO texts VALUES (?, ?)", (item_id, text)).rowcount == 0:
                raise InvalidArgumentError.of(field, f"the id {item_id!r} is there twice")

    def of(self, ids: Sequence[str]) -> dict[str, str]:
        """The texts of the ids that have one."""
        marks = ",".join("?" * len(ids))
        return dict(self._database.execute(f"SELECT id, text FROM texts WHERE id IN ({marks})", tuple(ids)))


def outputs_of(path: Path, field: str) -> Iterator[tuple[str, str]]:
    """Ids and outputs of a file of JSON lines.

    Raises:
        NotFoundError: reason FILE_NOT_FOUND.
        InvalidArgumentError: A line is no object with `id` and `output`.
    """
    if not path.is_file():
        raise NotFoundError(
            f"{field}: there is no file {path}.", resource_type="file", resource_name=str(path), reason="FILE_NOT_FOUND"
        )
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict) or not isinstance(row.get("output"), str) or row.get("id") is None:
                raise InvalidArgumentError.of(field, f'line {number} of {path} is no {{"id": …, "output": text}}')
            yield str(row["id"]), row["output"]
