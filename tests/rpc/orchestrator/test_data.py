"""`data.push` and `data.pull` against a real server: they go on where they stopped, and tell what is wrong."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path

import grpc
import pytest
from ilf.data.v1.data_service_pb2_grpc import add_DataServiceServicer_to_server

from ilf_client import AsyncClient, Endpoints, FailedPreconditionError, InvalidArgumentError, NotFoundError
from ilf_common.artifacts import ArtifactStore
from ilf_common.artifacts.manifest import describe_directory
from ilf_common.datasets import ColumnMap, open_dataset
from services.orchestrator.adapters.download_files import DownloadFiles
from services.orchestrator.adapters.upload_files import UploadFiles
from services.orchestrator.data_servicer import DataServicer
from services.orchestrator.downloads import DownloadService
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


class CountingDownloads(DownloadFiles):
    """Remembers from where files were read."""

    def __init__(self, store: ArtifactStore) -> None:
        super().__init__(store)
        self.reads: list[tuple[str, int]] = []

    async def read(self, uri: str, path: str, offset: int) -> AsyncGenerator[bytes]:
        self.reads.append((path, offset))
        async for block in super().read(uri, path, offset):
            yield block


@pytest.fixture
def leaving(store: ArtifactStore) -> CountingDownloads:
    return CountingDownloads(store)


@pytest.fixture
def checkpoint(store: ArtifactStore, tmp_path: Path) -> str:
    """A published directory of 9 MiB and a little."""
    folder = tmp_path / "checkpoint"
    (folder / "parts").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "parts" / "weights").write_bytes(random.Random(0).randbytes(9 * 1024 * 1024 + 5))
    (folder / "empty").touch()
    store.publish_directory(folder, "runs/a/it-1/checkpoint")
    return "runs/a/it-1/checkpoint"


@pytest.fixture
async def client(files: CountingFiles, leaving: CountingDownloads) -> AsyncIterator[AsyncClient]:
    def register(server: grpc.aio.Server) -> Sequence[str]:
        uploads, downloads = UploadService(files, 100 * PART_BYTES), DownloadService(leaving)
        add_DataServiceServicer_to_server(DataServicer(uploads, downloads), server)
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


async def test_a_pulled_directory_is_the_published_one(
    client: AsyncClient, store: ArtifactStore, checkpoint: str, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    manifest = await client.data.pull(checkpoint, tmp_path / "here", progress=lambda *at: seen.append(at))
    assert manifest == store.read_manifest(checkpoint) == describe_directory(tmp_path / "here")
    size = sum(entry.size for entry in manifest.files)
    assert seen[-1] == (size, size) and seen == sorted(seen)


async def test_a_pull_that_was_killed_fetches_only_the_rest(
    client: AsyncClient, leaving: CountingDownloads, store: ArtifactStore, checkpoint: str, tmp_path: Path
) -> None:
    begun = asyncio.Event()
    pulling = asyncio.create_task(
        client.data.pull(checkpoint, tmp_path / "here", progress=lambda here, _: here > 1 << 20 and begun.set())
    )
    await begun.wait()
    pulling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pulling
    leaving.reads.clear()
    await client.data.pull(checkpoint, tmp_path / "here")
    assert describe_directory(tmp_path / "here") == store.read_manifest(checkpoint)
    assert [path for path, _ in leaving.reads] == ["parts/weights"] and leaving.reads[0][1] >= 1 << 20


async def test_bytes_that_changed_in_the_store_are_refused_and_forgotten(
    client: AsyncClient, store: ArtifactStore, checkpoint: str, tmp_path: Path
) -> None:
    store.write_bytes(f"{checkpoint}/config.json", b"[]")
    with pytest.raises(FailedPreconditionError) as caught:
        await client.data.pull(checkpoint, tmp_path / "here")
    assert caught.value.reason == "CHECKPOINT_BROKEN"
    store.write_bytes(f"{checkpoint}/config.json", b"{}")
    await client.data.pull(checkpoint, tmp_path / "here")
    assert describe_directory(tmp_path / "here") == store.read_manifest(checkpoint)


async def test_a_folder_with_other_files_is_left_alone(
    client: AsyncClient, leaving: CountingDownloads, checkpoint: str, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "thesis.tex").write_text("years of work")
    with pytest.raises(FailedPreconditionError) as caught:
        await client.data.pull(checkpoint, tmp_path / "here")
    assert caught.value.reason == "FOLDER_NOT_EMPTY"
    assert leaving.reads == []


@pytest.mark.parametrize("uri", ["/etc", "../secrets", "s3://elsewhere/x"])
async def test_nothing_outside_the_store_is_handed_out(client: AsyncClient, uri: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await client.data.pull(uri, tmp_path / "here")
    assert caught.value.reason == "URI_OUTSIDE_STORE"


async def test_a_directory_without_a_manifest_is_not_there(
    client: AsyncClient, store: ArtifactStore, tmp_path: Path
) -> None:
    store.write_bytes("runs/a/notes.txt", b"x")
    with pytest.raises(NotFoundError) as caught:
        await client.data.pull("runs/a", tmp_path / "here")
    assert caught.value.reason == "CHECKPOINT_NOT_FOUND"


async def test_only_what_the_manifest_names_leaves_the_store(
    client: AsyncClient, store: ArtifactStore, checkpoint: str
) -> None:
    store.write_bytes(f"{checkpoint}/late", b"x")
    downloads = DownloadService(DownloadFiles(store))
    for path in ("late", "../checkpoint/config.json"):
        with pytest.raises(NotFoundError):
            await anext(downloads.read(checkpoint, path, 0))
    with pytest.raises(InvalidArgumentError, match="must be 0 to 2"):
        await anext(downloads.read(checkpoint, "config.json", 3))
