"""The gRPC face of uploads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from ilf.data.v1 import data_service_pb2 as pb
from ilf.data.v1.data_service_pb2_grpc import DataServiceServicer

from ilf_common.errors import require
from services.orchestrator.uploads import Upload, UploadId, UploadService


class DataServicer(DataServiceServicer):
    """Converts, calls one use case, converts back."""

    def __init__(self, uploads: UploadService) -> None:
        self._uploads = uploads

    async def GetUpload(self, request: pb.GetUploadRequest, context: Any) -> pb.Upload:  # noqa: D102
        return _to_proto(await self._uploads.get(UploadId(request.name, request.sha256)))

    async def UploadDataset(  # noqa: D102
        self, request_iterator: AsyncIterator[pb.UploadDatasetRequest], context: Any
    ) -> pb.Upload:
        header = (await anext(request_iterator, pb.UploadDatasetRequest())).header
        upload = UploadId(header.name, header.sha256)
        return _to_proto(await self._uploads.receive(upload, header.size_bytes, header.offset, _data(request_iterator)))


async def _data(requests: AsyncIterator[pb.UploadDatasetRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        require(request.WhichOneof("part") == "data", "part", "only the first message is a header, all others are data")
        yield request.data


def _to_proto(upload: Upload) -> pb.Upload:
    return pb.Upload(name=upload.id.name, sha256=upload.id.sha256, received_bytes=upload.received_bytes, uri=upload.uri)
