"""A set that stays on disk, so that checking millions of rows takes no memory."""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from types import TracebackType


class DiskSet:
    """Remembers texts by digest, each with a short note, in a temporary file that goes with the object."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ilf-")
        self._database = sqlite3.connect(f"{self._folder.name}/set.sqlite", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY, note TEXT) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def add(self, text: str, note: str = "") -> str | None:
        """Adds a text; answers None when it is new, else the note that it was first added with."""
        digest = hashlib.sha256(text.encode()).digest()[:16]
        cursor = self._database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (digest, note))
        if cursor.rowcount == 1:
            return None
        row = self._database.execute("SELECT note FROM seen WHERE digest = ?", (digest,)).fetchone()
        return str(row[0])

    def close(self) -> None:
        """Deletes the file."""
        self._database.close()
        self._folder.cleanup()

    def __enter__(self) -> DiskSet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
