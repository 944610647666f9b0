"""The gRPC face of uploads and downloads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from ilf.data.v1 import data_service_pb2 as pb
from ilf.data.v1.data_service_pb2_grpc import DataServiceServicer

from ilf_common.errors import require
from services.orchestrator.downloads import DownloadService
from services.orchestrator.uploads import Upload, UploadId, UploadService


class DataServicer(DataServiceServicer):
    """Converts, calls one use case, converts back."""

    def __init__(self, uploads: UploadService, downloads: DownloadService) -> None:
        self._uploads = uploads
        self._downloads = downloads

    async def GetUpload(self, request: pb.GetUploadRequest, context: Any) -> pb.Upload:  # noqa: D102
        return _to_proto(await self._uploads.get(UploadId(request.name, request.sha256)))

    async def UploadDataset(  # noqa: D102
        self, request_iterator: AsyncIterator[pb.UploadDatasetRequest], context: Any
    ) -> pb.Upload:
        header = (await anext(request_iterator, pb.UploadDatasetRequest())).header
        upload = UploadId(header.name, header.sha256)
        return _to_proto(await self._uploads.receive(upload, header.size_bytes, header.offset, _data(request_iterator)))

    async def GetDirectory(self, request: pb.GetDirectoryRequest, context: Any) -> pb.Directory:  # noqa: D102
        manifest = await self._downloads.get(request.uri)
        files = [
            pb.DirectoryFile(path=entry.path, size_bytes=entry.size, sha256=entry.sha256) for entry in manifest.files
        ]
        return pb.Directory(uri=request.uri, digest=manifest.digest, files=files)

    async def DownloadFile(  # noqa: D102
        self, request: pb.DownloadFileRequest, context: Any
    ) -> AsyncIterator[pb.DownloadFileResponse]:
        async with aclosing(self._downloads.read(request.uri, request.path, request.offset)) as blocks:
            async for block in blocks:
                yield pb.DownloadFileResponse(data=block)


async def _data(requests: AsyncIterator[pb.UploadDatasetRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        require(request.WhichOneof("part") == "data", "part", "only the first message is a header, all others are data")
        yield request.data


def _to_proto(upload: Upload) -> pb.Upload:
    return pb.Upload(name=upload.id.name, sha256=upload.id.sha256, received_bytes=upload.received_bytes, uri=upload.uri)
