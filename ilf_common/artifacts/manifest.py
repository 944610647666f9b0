"""What a published directory holds. A directory without a manifest does not exist for readers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from ilf_common.errors import FailedPreconditionError

_FORMAT = 1
_BLOCK = 1 << 20


@dataclass(frozen=True, order=True)
class FileEntry:
    """One file of a published directory.

    Attributes:
        path: Relative to the directory, with forward slashes.
        size: Bytes.
        sha256: Hex digest of the content.
    """

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The files of a published directory, sorted by path."""

    files: tuple[FileEntry, ...]

    @cached_property
    def digest(self) -> str:
        """sha256 over paths, sizes and contents: two directories with equal digests hold equal bytes."""
        rows = [[entry.path, entry.size, entry.sha256] for entry in self.files]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    def to_json(self) -> bytes:
        """The content of `_MANIFEST.json`."""
        rows = [{"path": entry.path, "size": entry.size, "sha256": entry.sha256} for entry in self.files]
        return json.dumps({"format": _FORMAT, "digest": self.digest, "files": rows}, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes, *, where: str) -> Manifest:
        """Reads a manifest.

        Raises:
            FailedPreconditionError: reason CHECKPOINT_BROKEN; `where` is named in the message.
        """
        try:
            content = json.loads(data)
            rows = [FileEntry(str(row["path"]), int(row["size"]), str(row["sha256"])) for row in content["files"]]
            manifest = cls(tuple(sorted(rows)))
            intact = content["format"] == _FORMAT and content["digest"] == manifest.digest
        except (ValueError, KeyError, TypeError) as error:
            raise broken(where, "its manifest is not readable") from error
        if not intact:
            raise broken(where, "its manifest does not match its own digest")
        unsafe = [row.path for row in rows if row.path.startswith("/") or ".." in row.path.split("/")]
        if unsafe:
            raise broken(where, f"its manifest names a file outside the directory: {unsafe[0]}")
        return manifest


def broken(where: str, why: str) -> FailedPreconditionError:
    """The error for a directory that cannot be trusted."""
    return FailedPreconditionError(
        f"{where} is broken: {why}. Publish it again.", reason="CHECKPOINT_BROKEN", metadata={"uri": where}
    )


def describe_stream(stream: BinaryIO) -> tuple[int, str]:
    """Size and sha256 of what is left in a stream, read in blocks."""
    hasher = hashlib.sha256()
    size = 0
    while block := stream.read(_BLOCK):
        hasher.update(block)
        size += len(block)
    return size, hasher.hexdigest()


def describe_directory(folder: Path, *, exclude: frozenset[str] = frozenset()) -> Manifest:
    """The manifest of a local directory as it is now, without the file names in `exclude`."""
    entries = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in exclude:
            with path.open("rb") as stream:
                entries.append(FileEntry(path.relative_to(folder).as_posix(), *describe_stream(stream)))
    return Manifest(tuple(sorted(entries)))
