"""Dataset files that callers bring: received in parts, checked as a whole."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from ilf_common.errors import AbortedError, FieldViolation, InvalidArgumentError

PART_BYTES = 4 * 1024 * 1024
SUFFIXES = (".jsonl", ".json", ".parquet")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class UploadId:
    """A file by its name and the digest of its content."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Upload:
    """What is there of a file; `uri` is set once it is whole."""

    id: UploadId
    received_bytes: int
    uri: str = ""


class UploadStore(Protocol):
    """Where parts and finished files lie."""

    async def received(self, upload: UploadId) -> int:
        """Bytes that were received without a gap from the start."""
        ...

    async def append(self, upload: UploadId, offset: int, data: bytes) -> None:
        """Keeps a part, whole or not at all."""
        ...

    async def discard(self, upload: UploadId) -> None:
        """Throws all parts away."""
        ...

    async def finished(self, upload: UploadId) -> tuple[str, int] | None:
        """URI and size of the finished file, None where there is none."""
        ...

    async def finish(self, upload: UploadId) -> str | None:
        """Makes the file of its parts and answers its URI; None, and no file, where the digest is another."""
        ...


class UploadService:
    """Receives files.

    Args:
        store: Where they go.
        max_bytes: Largest file.
    """

    def __init__(self, store: UploadStore, max_bytes: int) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._turns: defaultdict[UploadId, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def get(self, upload: UploadId) -> Upload:
        """What is there of a file."""
        _refuse(_id_violations(upload))
        finished = await self._store.finished(upload)
        if finished is not None:
            return Upload(upload, finished[1], finished[0])
        return Upload(upload, await self._store.received(upload))

    async def receive(self, upload: UploadId, size: int, offset: int, data: AsyncIterator[bytes]) -> Upload:
        """Receives a file from an offset on.

        Args:
            upload: The file.
            size: Its size in bytes.
            offset: Where the data begins.
            data: The bytes; may end before the file does.

        Raises:
            InvalidArgumentError: A wrong name, digest or size, more bytes than announced, or DIGEST_MISMATCH.
            AbortedError: UPLOAD_OFFSET; the offset is not where the received bytes end.
        """
        _refuse([*_id_violations(upload), *self._size_violations(size)])
        there = await self.get(upload)
        if there.uri:
            return there
        if offset != there.received_bytes:
            raise AbortedError(
                f"{there.received_bytes} bytes of {upload.name} were received; the upload cannot go on at {offset}.",
                reason="UPLOAD_OFFSET",
                metadata={"received_bytes": str(there.received_bytes)},
            )
        received = await self._append(upload, size, offset, data)
        if received < size:
            return Upload(upload, received)
        return Upload(upload, received, await self._finish(upload))

    async def _append(self, upload: UploadId, size: int, offset: int, data: AsyncIterator[bytes]) -> int:
        # Parts always begin at multiples of their size, and only the last one is shorter: whoever sends the file, and
        # however often, writes the same parts. What is left when a stream ends early is sent again.
        waiting = bytearray()
        async for block in data:
            waiting += block
            if offset + len(waiting) > size:
                raise InvalidArgumentError.of("size_bytes", f"is {size}, but more bytes came")
            while len(waiting) >= PART_BYTES or (waiting and offset + len(waiting) == size):
                part = bytes(waiting[:PART_BYTES])
                if not await self._keep(upload, offset, part):
                    return size
                offset += len(part)
                del waiting[: len(part)]
        return offset

    async def _keep(self, upload: UploadId, offset: int, part: bytes) -> bool:
        """Keeps a part; False where somebody else who sends the same file has finished it."""
        async with self._turns[upload]:
            if await self._store.finished(upload) is not None:
                return False
            await self._store.append(upload, offset, part)
            return True

    async def _finish(self, upload: UploadId) -> str:
        async with self._turns[upload]:
            finished = await self._store.finished(upload)
            uri = finished[0] if finished else await self._store.finish(upload)
            await self._store.discard(upload)
        if uri is None:
            raise InvalidArgumentError.of(
                "sha256",
                f"the bytes of {upload.name} have another digest; send the file again",
                reason="DIGEST_MISMATCH",
            )
        return uri

    def _size_violations(self, size: int) -> list[FieldViolation]:
        if 0 < size <= self._max_bytes:
            return []
        return [FieldViolation("size_bytes", f"must be 1 to {self._max_bytes} (uploads.max_bytes), is {size}")]


def _id_violations(upload: UploadId) -> list[FieldViolation]:
    found = []
    if not _NAME.fullmatch(upload.name) or not upload.name.endswith(SUFFIXES):
        allowed = f"letters, digits, '.', '_' and '-', ending in one of {', '.join(SUFFIXES)}"
        found.append(FieldViolation("name", f"must be {allowed}; is {upload.name!r}"))
    if not _SHA256.fullmatch(upload.sha256):
        found.append(FieldViolation("sha256", "must be 64 lower-case hexadecimal digits"))
    return found


def _refuse(violations: list[FieldViolation]) -> None:
    if violations:
        raise InvalidArgumentError(violations=violations)
