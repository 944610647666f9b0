"""A published directory on its way to this machine: what broke off goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

from ilf_client.files import require_empty
from ilf_common.artifacts.manifest import FileEntry, Manifest, broken, describe_stream

_MARK = ".ilf-pull"
_PART = ".ilf-part"


class IncomingDirectory:
    """A folder that fills up with the files of a manifest.

    Args:
        folder: Where they go: empty, not there yet, or left by an earlier attempt for the same manifest.
        manifest: What is to come.
        uri: Where it comes from, for messages.

    Raises:
        FailedPreconditionError: FOLDER_NOT_EMPTY, or CHECKPOINT_BROKEN: the manifest names a file outside the folder.
    """

    def __init__(self, folder: Path, manifest: Manifest, uri: str) -> None:
        self._folder = folder
        self._uri = uri
        self._whole: set[str] = set()
        mark = folder / _MARK
        earlier = mark.read_text(encoding="utf-8") if mark.is_file() else None
        if earlier != manifest.digest:
            require_empty(folder)
        for entry in manifest.files:
            if not (folder / entry.path).resolve().is_relative_to(folder.resolve()):
                raise broken(uri, f"its manifest names a file outside the directory: {entry.path}")
        folder.mkdir(parents=True, exist_ok=True)
        mark.write_text(manifest.digest, encoding="utf-8")

    def missing_from(self, entry: FileEntry) -> int | None:
        """The first byte of a file that is missing here; None where the file is whole and verified."""
        if entry.path in self._whole:
            return None
        if (self._folder / entry.path).is_file():
            self._verify(entry, self._folder / entry.path)
            return None
        part = self._part(entry)
        return part.stat().st_size if part.is_file() else 0

    def write(self, entry: FileEntry, offset: int, data: bytes) -> None:
        """Takes bytes of a file."""
        part = self._part(entry)
        part.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        with part.open("r+b") as stream:
            stream.seek(offset)
            stream.write(data)

    def finish(self, entry: FileEntry) -> None:
        """Gives a file its name once its bytes are verified.

        Raises:
            FailedPreconditionError: reason CHECKPOINT_BROKEN; what came is thrown away.
        """
        part = self._part(entry)
        self.write(entry, 0, b"")
        self._verify(entry, part)
        part.replace(self._folder / entry.path)

    def close(self) -> None:
        """Everything is there."""
        (self._folder / _MARK).unlink()

    def _verify(self, entry: FileEntry, path: Path) -> None:
        with path.open("rb") as stream:
            intact = describe_stream(stream) == (entry.size, entry.sha256)
        if not intact:
            path.unlink()
            raise broken(f"{self._uri}/{entry.path}", "the bytes that came have another digest")
        self._whole.add(entry.path)

    def _part(self, entry: FileEntry) -> Path:
        return self._folder / f"{entry.path}{_PART}"
