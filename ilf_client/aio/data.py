"""Files between this machine and the services' artifact store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ilf.data.v1 import data_service_pb2 as pb
from ilf.data.v1.data_service_pb2_grpc import DataServiceStub

from ilf_client._convert import from_proto
from ilf_client._transport import Transport
from ilf_client.incoming import IncomingDirectory
from ilf_client.models.data import Upload
from ilf_common.artifacts.manifest import FileEntry, Manifest, describe_stream
from ilf_common.errors import AbortedError, UnavailableError
from ilf_common.rpc.client import call, stream

if TYPE_CHECKING:
    from ilf.data.v1.data_service_pb2_grpc import DataServiceAsyncStub

_BLOCK = 1 << 20


class AsyncData:
    """Send datasets, fetch checkpoints."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @cached_property
    def _stub(self) -> DataServiceAsyncStub:
        return DataServiceStub(self._transport.channel("orchestrator"))

    async def push(
        self,
        path: str | Path,
        *,
        name: str = "",
        progress: Callable[[int, int], None] | None = None,
        timeout: float | None = None,
    ) -> Upload:
        """Sends a dataset file, or what is left of it after an earlier attempt, and answers its URI for a run.

        Args:
            path: A .jsonl, .json or .parquet file; it must not change meanwhile.
            name: Its name in the store; empty for its own.
            progress: Called with the bytes that were sent and the size of the file.
            timeout: Seconds for the whole; None waits as long as it gets on.

        Raises:
            InvalidArgumentError: A name or size that the server does not take, or DIGEST_MISMATCH: the file changed.
        """
        file = _File(Path(path), name or Path(path).name)
        await asyncio.to_thread(file.describe)

        async def attempt(seconds: float | None, renew: Callable[[], None]) -> Upload:
            return await self._send(file, seconds, renew, progress or _nothing)

        return await self._transport.resume(attempt, timeout)

    async def _send(
        self, file: _File, seconds: float | None, renew: Callable[[], None], progress: Callable[[int, int], None]
    ) -> Upload:
        asked = pb.GetUploadRequest(name=file.name, sha256=file.sha256)
        there = await self._transport.call(self._stub.GetUpload, asked, seconds)
        if there.received_bytes:
            renew()
        if not there.uri:
            requests = file.requests(there.received_bytes, lambda sent: progress(sent, file.size))
            try:
                there = await call(self._stub.UploadDataset, requests, timeout=seconds)
            except AbortedError as error:  # parts of an earlier attempt came in meanwhile
                raise UnavailableError(error.message, reason=error.reason) from error
        if not there.uri:
            raise UnavailableError(f"The upload of {file.name} ended early.", reason="UPLOAD_INCOMPLETE")
        return from_proto(there, Upload)

    async def pull(
        self,
        uri: str,
        folder: str | Path,
        *,
        progress: Callable[[int, int], None] | None = None,
        timeout: float | None = None,
    ) -> Manifest:
        """Fetches a published directory, or what an earlier attempt left of it; every file is verified.

        Args:
            uri: In the artifact store: a checkpoint, or what else has a manifest.
            folder: New, empty, or left by an earlier attempt.
            progress: Called with the bytes that are here and the size of the whole.
            timeout: Seconds for the whole; None waits as long as it gets on.

        Returns:
            What was fetched.

        Raises:
            NotFoundError: reason CHECKPOINT_NOT_FOUND.
            InvalidArgumentError: reason URI_OUTSIDE_STORE.
            FailedPreconditionError: FOLDER_NOT_EMPTY, or CHECKPOINT_BROKEN.
        """
        began = time.monotonic()
        manifest = await self.describe(uri, timeout=timeout)
        incoming = await asyncio.to_thread(IncomingDirectory, Path(folder), manifest, uri)
        size = sum(entry.size for entry in manifest.files)

        async def attempt(seconds: float | None, renew: Callable[[], None]) -> None:
            before = 0
            for entry in manifest.files:

                def got(here: int, before: int = before) -> None:
                    renew()
                    (progress or _nothing)(before + here, size)

                await self._fetch(uri, entry, incoming, seconds, got)
                before += entry.size

        await self._transport.resume(attempt, timeout and max(0.0, timeout - (time.monotonic() - began)))
        incoming.close()
        return manifest

    async def describe(self, uri: str, *, timeout: float | None = None) -> Manifest:
        """What a published directory holds; errors as in `pull`."""
        found = await self._transport.call(self._stub.GetDirectory, pb.GetDirectoryRequest(uri=uri), timeout)
        return Manifest(tuple(FileEntry(file.path, file.size_bytes, file.sha256) for file in found.files))

    async def _fetch(
        self,
        uri: str,
        entry: FileEntry,
        incoming: IncomingDirectory,
        seconds: float | None,
        got: Callable[[int], None],
    ) -> None:
        here = await asyncio.to_thread(incoming.missing_from, entry)
        if here is None:
            got(entry.size)
            return
        asked = pb.DownloadFileRequest(uri=uri, path=entry.path, offset=here)
        async with aclosing(stream(self._stub.DownloadFile, asked, timeout=seconds)) as blocks:
            async for block in blocks:
                await asyncio.to_thread(incoming.write, entry, here, block.data)
                here += len(block.data)
                got(here)
        await asyncio.to_thread(incoming.finish, entry)


class _File:
    """A file to be sent."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name
        self.size = 0
        self.sha256 = ""

    def describe(self) -> None:
        """Reads size and digest."""
        with self.path.open("rb") as stream:
            self.size, self.sha256 = describe_stream(stream)

    async def requests(self, offset: int, sent: Callable[[int], None]) -> AsyncIterator[pb.UploadDatasetRequest]:
        """The header, then the bytes from an offset on."""
        yield pb.UploadDatasetRequest(
            header=pb.UploadHeader(name=self.name, sha256=self.sha256, size_bytes=self.size, offset=offset)
        )
        with self.path.open("rb") as stream:
            stream.seek(offset)
            while block := await asyncio.to_thread(stream.read, _BLOCK):
                yield pb.UploadDatasetRequest(data=block)
                offset += len(block)
                sent(offset)


def _nothing(sent: int, size: int) -> None:
    return None
