"""The artifact store on an object store: ILF_TEST_STORE names a root such as s3://bucket?endpoint_override=…"""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from ilf_common.artifacts import MANIFEST_NAME, ArtifactStore
from ilf_common.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError

ROOT = os.environ.get("ILF_TEST_STORE", "")
pytestmark = pytest.mark.skipif(not ROOT, reason="ILF_TEST_STORE names no object store")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ArtifactStore]:
    location, _, options = ROOT.partition("?")
    prefix = f"{location.rstrip('/')}/ilf-test-{uuid.uuid4().hex}"
    store = ArtifactStore(f"{prefix}?{options}" if options else prefix, cache=tmp_path / "cache")
    yield store
    store.delete("runs")


def test_lines_are_not_fetched_one_by_one(store: ArtifactStore) -> None:
    content = b'{"context": "a"}\n' * 5000
    store.write_bytes("runs/rows.jsonl", content)
    with store.open("runs/rows.jsonl") as stream:
        next(stream)
        assert cast(io.BufferedReader, stream).raw.tell() == len(content)
        assert sum(1 for _ in stream) == 4999


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    # More than one part of a multipart upload.
    (folder / "sub" / "weights.bin").write_bytes(os.urandom(12 * 1024 * 1024))
    return folder


def test_a_file_is_read_back_listed_and_deleted(store: ArtifactStore) -> None:
    store.write_bytes("runs/a/part-0", b"old")
    store.write_bytes("runs/a/part-0", b"new")
    store.write_bytes("runs/a/deeper/part-1", b"")
    assert store.read_bytes("runs/a/part-0") == b"new"
    assert list(store.list_files("runs/a")) == ["runs/a/deeper/part-1", "runs/a/part-0"]
    store.delete("runs/a")
    assert list(store.list_files("runs/a")) == []
    with pytest.raises(NotFoundError) as caught:
        store.read_bytes("runs/a/part-0")
    assert caught.value.reason == "ARTIFACT_NOT_FOUND"


def test_a_failed_write_publishes_nothing(store: ArtifactStore) -> None:
    def fail(stream: object) -> None:
        stream.write(b"half")  # type: ignore[attr-defined]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.write("runs/a/part-0", fail)
    assert not store.exists("runs/a/part-0")


def test_a_published_directory_is_fetched_as_it_was_and_only_once(store: ArtifactStore, checkpoint: Path) -> None:
    manifest = store.publish_directory(checkpoint, "runs/a/checkpoint")
    folder = store.fetch_directory("runs/a/checkpoint")
    for path in ("config.json", "sub/weights.bin"):
        assert (folder / path).read_bytes() == (checkpoint / path).read_bytes()
    fetched = (folder / "sub" / "weights.bin").stat().st_mtime_ns
    assert store.fetch_directory("runs/a/checkpoint") == folder
    assert (folder / "sub" / "weights.bin").stat().st_mtime_ns == fetched
    assert store.publish_directory(checkpoint, "runs/a/checkpoint") == manifest
    (checkpoint / "config.json").write_text('{"other": 1}')
    with pytest.raises(FailedPreconditionError) as caught:
        store.publish_directory(checkpoint, "runs/a/checkpoint")
    assert caught.value.reason == "ALREADY_PUBLISHED"


def test_what_has_no_manifest_does_not_exist_and_what_differs_is_broken(store: ArtifactStore, checkpoint: Path) -> None:
    store.publish_directory(checkpoint, "runs/a/checkpoint")
    store.write_bytes("runs/a/checkpoint/config.json", b"[]")
    with pytest.raises(FailedPreconditionError) as caught:
        store.fetch_directory("runs/a/checkpoint")
    assert caught.value.reason == "CHECKPOINT_BROKEN"
    store.delete(f"runs/a/checkpoint/{MANIFEST_NAME}")
    assert not store.exists("runs/a/checkpoint")


def test_an_address_reaches_the_same_store_in_another_process(store: ArtifactStore) -> None:
    store.write_bytes("runs/a/part-0", b"here")
    assert ArtifactStore(store.location).read_bytes("runs/a/part-0") == b"here"
    assert store.resolve(store.uri("runs/a/part-0")) == "runs/a/part-0"
    with pytest.raises(InvalidArgumentError):
        store.resolve("s3://another-bucket/runs/a")
