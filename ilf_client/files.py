"""Files that are written whole or not at all, and folders that one process works in at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ilf_common.errors import FailedPreconditionError


@contextmanager
def new_file(path: Path) -> Iterator[TextIO]:
    """A file to write that appears at `path` when the block has ended well and all of it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    with aside.open("w", encoding="utf-8") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(path)


@contextmanager
def locked(file: Path, message: str, reason: str) -> Iterator[None]:
    """Makes a file's folder and keeps the file locked; the lock ends with the process, however it ends.

    Raises:
        FailedPreconditionError: With this message and reason; another process has locked the file.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FailedPreconditionError(message, reason=reason) from error
        yield


def require_empty(folder: Path) -> None:
    """Refuses a folder that holds anything; it need not be there.

    Raises:
        FailedPreconditionError: reason FOLDER_NOT_EMPTY.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FailedPreconditionError(f"The folder {folder} is not empty; name a new one.", reason="FOLDER_NOT_EMPTY")
