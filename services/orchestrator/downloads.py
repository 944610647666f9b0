"""Published directories that callers take out of the store: their manifest, and their files from any byte on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from ilf_common.artifacts.manifest import Manifest
from ilf_common.errors import InvalidArgumentError, NotFoundError


class DownloadStore(Protocol):
    """Where published directories lie."""

    async def manifest(self, uri: str) -> Manifest:
        """What a directory holds.

        Raises:
            InvalidArgumentError: reason URI_OUTSIDE_STORE.
            NotFoundError: reason CHECKPOINT_NOT_FOUND.
            FailedPreconditionError: reason CHECKPOINT_BROKEN.
        """
        ...

    def read(self, uri: str, path: str, offset: int) -> AsyncGenerator[bytes]:
        """The bytes of a file of the directory, from an offset on, in blocks of at most 1 MiB.

        Raises:
            NotFoundError: reason ARTIFACT_NOT_FOUND.
        """
        ...


class DownloadService:
    """Hands published directories out. Only what a manifest names leaves the store.

    Args:
        store: Where they lie.
    """

    def __init__(self, store: DownloadStore) -> None:
        self._store = store

    async def get(self, uri: str) -> Manifest:
        """What a directory holds; errors as in `DownloadStore.manifest`."""
        return await self._store.manifest(uri)

    async def read(self, uri: str, path: str, offset: int) -> AsyncGenerator[bytes]:
        """The bytes of one file, from an offset on.

        Raises:
            IlfError: As `get`.
            NotFoundError: reason ARTIFACT_NOT_FOUND; the directory has no such file.
            InvalidArgumentError: The offset lies outside the file.
        """
        entry = next((entry for entry in (await self.get(uri)).files if entry.path == path), None)
        if entry is None:
            raise NotFoundError(
                f"{uri} holds no file {path!r}.",
                resource_type="artifact",
                resource_name=path,
                reason="ARTIFACT_NOT_FOUND",
            )
        if not 0 <= offset <= entry.size:
            raise InvalidArgumentError.of("offset", f"must be 0 to {entry.size}, the size of {path}; is {offset}")
        async for block in self._store.read(uri, path, offset):
            yield block
