"""Small secret files that are replaced while a process runs (tokens, certificates)."""

from __future__ import annotations

from pathlib import Path

from ilf_common.errors import FailedPreconditionError


class WatchedFile:
    """A file whose content is read again only after it changed.

    Args:
        path: The file.

    Raises:
        FailedPreconditionError: reason FILE_UNREADABLE; the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = (0, 0, -1)
        self._content = b""
        self.read()

    def read(self) -> bytes:
        """The present content.

        Raises:
            FailedPreconditionError: reason FILE_UNREADABLE.
        """
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if stamp != self._stamp:
                self._content, self._stamp = self._path.read_bytes(), stamp
        except OSError as error:
            raise FailedPreconditionError(
                f"{self._path} cannot be read: {error.strerror}", reason="FILE_UNREADABLE"
            ) from error
        return self._content
