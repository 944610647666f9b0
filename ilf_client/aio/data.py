"""Dataset files of this machine, brought to the services' artifact store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ilf.data.v1 import data_service_pb2 as pb
from ilf.data.v1.data_service_pb2_grpc import DataServiceStub

from ilf_client._convert import from_proto
from ilf_client._transport import Transport
from ilf_client.models.data import Upload
from ilf_common.artifacts.manifest import describe_stream
from ilf_common.errors import AbortedError, UnavailableError
from ilf_common.rpc.client import call

if TYPE_CHECKING:
    from ilf.data.v1.data_service_pb2_grpc import DataServiceAsyncStub

_BLOCK = 1 << 20


class AsyncData:
    """Send datasets."""

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
