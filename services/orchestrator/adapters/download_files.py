"""Published directories of the artifact store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from ilf_common.artifacts import ArtifactStore
from ilf_common.artifacts.manifest import Manifest

_BLOCK = 1 << 20


class DownloadFiles:
    """Implements `downloads.DownloadStore`."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    async def manifest(self, uri: str) -> Manifest:
        """Reads the directory's manifest."""
        return await asyncio.to_thread(self._store.read_manifest, self._store.resolve(uri))

    async def read(self, uri: str, path: str, offset: int) -> AsyncGenerator[bytes]:
        """Opens the file once and reads it block by block, as fast as the caller takes it."""
        stream = await asyncio.to_thread(self._store.open, f"{self._store.resolve(uri)}/{path}")
        try:
            await asyncio.to_thread(stream.seek, offset)
            while block := await asyncio.to_thread(stream.read, _BLOCK):
                yield block
        finally:
            await asyncio.to_thread(stream.close)
