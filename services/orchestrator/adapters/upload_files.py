"""Uploads in the artifact store: parts in `datasets/.uploads/<sha256>/<name>/`, files as `datasets/<sha256>/<name>`."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterator
from typing import BinaryIO

from ilf_common.artifacts import ArtifactStore
from services.orchestrator.uploads import UploadId

_PART = re.compile(r"(\d{20})-(\d+)")
_BLOCK = 1 << 20


class UploadFiles:
    """Implements `uploads.UploadStore`."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    async def received(self, upload: UploadId) -> int:
        """Bytes without a gap from the start."""
        parts = await asyncio.to_thread(lambda: list(self._parts(upload)))
        return sum(length for _, length in parts)

    async def append(self, upload: UploadId, offset: int, data: bytes) -> None:
        """Writes one part; its name tells what of the file it is."""
        key = f"{_folder(upload)}/{offset:020d}-{len(data)}"
        await asyncio.to_thread(self._store.write_bytes, key, data)

    async def discard(self, upload: UploadId) -> None:
        """Deletes the parts."""
        await asyncio.to_thread(self._store.delete, _folder(upload))

    async def finished(self, upload: UploadId) -> tuple[str, int] | None:
        """The key is the URI: it means the same to every service."""
        return await asyncio.to_thread(self._finished, upload)

    def _finished(self, upload: UploadId) -> tuple[str, int] | None:
        key = _key(upload)
        return (key, self._store.size(key)) if self._store.exists(key) else None

    async def finish(self, upload: UploadId) -> str | None:
        """Joins the parts; the file appears only if its digest is right."""
        return await asyncio.to_thread(self._finish, upload)

    def _finish(self, upload: UploadId) -> str | None:
        key = _key(upload)
        try:
            self._store.write(key, lambda target: self._join(upload, target))
        except _OtherDigest:
            return None
        return key

    def _join(self, upload: UploadId, target: BinaryIO) -> None:
        digest = hashlib.sha256()
        for key, _ in self._parts(upload):
            with self._store.open(key) as part:
                while block := part.read(_BLOCK):
                    digest.update(block)
                    target.write(block)
        if digest.hexdigest() != upload.sha256:
            raise _OtherDigest

    def _parts(self, upload: UploadId) -> Iterator[tuple[str, int]]:
        """Keys and lengths of the parts that follow one another from the start."""
        end = 0
        for key in self._store.list_files(_folder(upload)):
            name = _PART.fullmatch(key.rpartition("/")[2])
            if name and int(name[1]) == end:
                yield key, int(name[2])
                end += int(name[2])


class _OtherDigest(Exception):
    """The parts are not the announced file."""


def _folder(upload: UploadId) -> str:
    return f"datasets/.uploads/{upload.sha256}/{upload.name}"


def _key(upload: UploadId) -> str:
    return f"datasets/{upload.sha256}/{upload.name}"
