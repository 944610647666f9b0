"""Uploads: whatever a caller sends and wherever it stops, only the announced bytes become a dataset."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ilf_common.artifacts import ArtifactStore
from ilf_common.errors import AbortedError, InvalidArgumentError
from services.orchestrator import uploads
from services.orchestrator.adapters.upload_files import UploadFiles
from services.orchestrator.uploads import UploadId, UploadService

PART = 100
DATA = random.Random(0).randbytes(730)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PART_BYTES", PART)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path))


def service(store: ArtifactStore, max_bytes: int = 1000) -> UploadService:
    return UploadService(UploadFiles(store), max_bytes)


def named(data: bytes, name: str = "train.jsonl") -> UploadId:
    return UploadId(name, hashlib.sha256(data).hexdigest())


async def blocks(data: bytes, sizes: Iterable[int] = ()) -> AsyncIterator[bytes]:
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield data


async def broken_after(data: bytes) -> AsyncIterator[bytes]:
    yield data
    raise ConnectionError("the caller is gone")


def files(store: ArtifactStore) -> list[str]:
    return list(store.list_files("datasets"))


async def test_a_file_arrives_whole_and_leaves_no_parts(store: ArtifactStore) -> None:
    upload = named(DATA)
    done = await service(store).receive(upload, len(DATA), 0, blocks(DATA))
    assert done.uri == f"datasets/{upload.sha256}/train.jsonl"
    assert store.read_bytes(done.uri) == DATA
    assert files(store) == [done.uri]


async def test_an_upload_that_broke_off_goes_on_in_another_process(store: ArtifactStore) -> None:
    upload = named(DATA)
    with pytest.raises(ConnectionError):
        await service(store).receive(upload, len(DATA), 0, broken_after(DATA[:250]))
    there = await service(store).get(upload)
    assert (there.received_bytes, there.uri) == (200, "")
    done = await service(store).receive(upload, len(DATA), 200, blocks(DATA[200:]))
    assert store.read_bytes(done.uri) == DATA


async def test_sending_a_finished_file_again_reads_nothing(store: ArtifactStore) -> None:
    upload = named(DATA)
    first = await service(store).receive(upload, len(DATA), 0, blocks(DATA))
    assert await service(store).receive(upload, len(DATA), 0, broken_after(b"")) == first


async def test_two_callers_that_send_the_same_file_both_get_it(store: ArtifactStore) -> None:
    upload, shared = named(DATA), service(store)
    results = await asyncio.gather(
        *(shared.receive(upload, len(DATA), 0, blocks(DATA, sizes)) for sizes in ([30] * 20, [250]))
    )
    assert {result.uri for result in results} == {f"datasets/{upload.sha256}/train.jsonl"}
    assert store.read_bytes(results[0].uri) == DATA


async def test_a_part_that_comes_when_another_caller_has_finished_is_not_kept(store: ArtifactStore) -> None:
    upload, shared = named(DATA), service(store)
    finished = asyncio.Event()

    async def late() -> AsyncIterator[bytes]:
        yield DATA[:300]
        await finished.wait()
        yield DATA[300:]

    slow = asyncio.create_task(shared.receive(upload, len(DATA), 0, late()))
    quick = await shared.receive(upload, len(DATA), 0, blocks(DATA))
    finished.set()
    assert await slow == quick
    assert files(store) == [quick.uri]


async def test_one_content_under_two_names_is_two_files(store: ArtifactStore) -> None:
    shared = service(store)
    one, other = named(DATA), named(DATA, "test.jsonl")
    begun = await shared.receive(one, len(DATA), 0, blocks(DATA[:300]))
    await shared.receive(other, len(DATA), 0, blocks(DATA))
    whole = await shared.receive(one, len(DATA), begun.received_bytes, blocks(DATA[begun.received_bytes :]))
    assert store.read_bytes(whole.uri) == DATA


async def test_other_bytes_than_announced_are_refused_and_forgotten(store: ArtifactStore) -> None:
    upload = named(DATA)
    with pytest.raises(InvalidArgumentError) as caught:
        await service(store).receive(upload, len(DATA), 0, blocks(bytes(len(DATA))))
    assert caught.value.reason == "DIGEST_MISMATCH"
    assert files(store) == []
    assert (await service(store).get(upload)).received_bytes == 0


async def test_a_wrong_offset_says_the_right_one(store: ArtifactStore) -> None:
    with pytest.raises(AbortedError) as caught:
        await service(store).receive(named(DATA), len(DATA), 200, blocks(DATA[200:]))
    assert (caught.value.reason, caught.value.metadata) == ("UPLOAD_OFFSET", {"received_bytes": "0"})


async def test_more_bytes_than_announced_are_refused(store: ArtifactStore) -> None:
    with pytest.raises(InvalidArgumentError, match="more bytes came"):
        await service(store).receive(named(DATA), 700, 0, blocks(DATA))


@pytest.mark.parametrize(
    ("upload", "size", "field"),
    [
        (named(DATA, "../x.jsonl"), 10, "name"),
        (named(DATA, ".hidden.jsonl"), 10, "name"),
        (named(DATA, "x.exe"), 10, "name"),
        (UploadId("x.jsonl", "ABC"), 10, "sha256"),
        (named(DATA), 0, "size_bytes"),
        (named(DATA), 1001, "size_bytes"),
    ],
)
async def test_what_can_never_be_a_dataset_is_refused(
    store: ArtifactStore, upload: UploadId, size: int, field: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await service(store).receive(upload, size, 0, blocks(DATA))
    assert [violation.field for violation in caught.value.violations] == [field]
    assert files(store) == []


@settings(max_examples=30)
@given(size=st.integers(1, 400), stops=st.lists(st.integers(0, 400), max_size=4), block=st.integers(1, 150))
def test_stopping_anywhere_any_number_of_times_ends_with_the_file(
    tmp_path_factory: pytest.TempPathFactory, size: int, stops: list[int], block: int
) -> None:
    store = ArtifactStore(str(tmp_path_factory.mktemp("store")))
    data, upload = DATA[:size], named(DATA[:size])

    async def send() -> str:
        for stop in [*stops, size]:
            there = await service(store).get(upload)
            if not there.uri:
                rest = data[there.received_bytes : max(stop, there.received_bytes)]
                await service(store).receive(
                    upload, size, there.received_bytes, blocks(rest, [block] * (len(rest) // block))
                )
        return (await service(store).get(upload)).uri

    assert store.read_bytes(asyncio.run(send())) == data
