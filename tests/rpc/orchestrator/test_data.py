"""`data.push` against a real server: it goes on where it stopped, and tells what is wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import pytest
from ilf.data.v1.data_service_pb2_grpc import add_DataServiceServicer_to_server

from ilf_client import AsyncClient, Endpoints, InvalidArgumentError
from ilf_common.artifacts import ArtifactStore
from ilf_common.datasets import ColumnMap, open_dataset
from services.orchestrator.adapters.upload_files import UploadFiles
from services.orchestrator.data_servicer import DataServicer
from services.orchestrator.uploads import PART_BYTES, UploadId, UploadService
from tests.support import running_server


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    row = json.dumps({"id": "{}", "context": "c" * 1000})
    path.write_text("\n".join(row.replace("{}", str(index)) for index in range(3 * PART_BYTES // 1000)))
    return path


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))


class CountingFiles(UploadFiles):
    """Remembers which parts came in."""

    def __init__(self, store: ArtifactStore) -> None:
        super().__init__(store)
        self.offsets: list[int] = []
        self.first_part = asyncio.Event()

    async def append(self, upload: UploadId, offset: int, data: bytes) -> None:
        await super().append(upload, offset, data)
        self.offsets.append(offset)
        self.first_part.set()


@pytest.fixture
def files(store: ArtifactStore) -> CountingFiles:
    return CountingFiles(store)


@pytest.fixture
async def client(files: CountingFiles) -> AsyncIterator[AsyncClient]:
    def register(server: grpc.aio.Server) -> Sequence[str]:
        add_DataServiceServicer_to_server(DataServicer(UploadService(files, 100 * PART_BYTES)), server)
        return []

    async with running_server(register, component="orchestrator") as address, AsyncClient(Endpoints.at(address)) as it:
        yield it


async def test_a_pushed_file_is_a_dataset(client: AsyncClient, store: ArtifactStore, dataset: Path) -> None:
    seen: list[tuple[int, int]] = []
    upload = await client.data.push(dataset, progress=lambda sent, size: seen.append((sent, size)))
    size = dataset.stat().st_size
    assert seen[-1] == (size, size)
    rows = open_dataset(store, upload.uri, columns=ColumnMap(), needs=frozenset(), field="uri").rows()
    assert sum(1 for _ in rows) == 3 * PART_BYTES // 1000


async def test_a_push_that_was_killed_sends_only_the_rest(
    client: AsyncClient, files: CountingFiles, store: ArtifactStore, dataset: Path
) -> None:
    pushing = asyncio.create_task(client.data.push(dataset))
    await files.first_part.wait()
    pushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pushing
    upload = await client.data.push(dataset)
    assert store.read_bytes(upload.uri) == dataset.read_bytes()
    assert files.offsets.count(0) == 1, "the first part was sent twice"


async def test_a_file_that_changes_while_it_is_sent_is_refused(
    client: AsyncClient, store: ArtifactStore, dataset: Path
) -> None:
    def change(sent: int, size: int) -> None:
        with dataset.open("r+b") as stream:
            stream.seek(2 * PART_BYTES)
            stream.write(b"x")

    with pytest.raises(InvalidArgumentError) as caught:
        await client.data.push(dataset, progress=change)
    assert caught.value.reason == "DIGEST_MISMATCH"
    assert list(store.list_files("datasets")) == []


async def test_a_wrong_name_is_refused_before_anything_is_sent(
    client: AsyncClient, files: CountingFiles, dataset: Path
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await client.data.push(dataset, name="a/b.jsonl")
    assert [violation.field for violation in caught.value.violations] == ["name"]
    assert files.offsets == []
