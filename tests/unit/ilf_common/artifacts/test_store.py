from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilf_common.artifacts import MANIFEST_NAME, ArtifactStore, FileEntry, Manifest
from ilf_common.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "weights.bin").write_bytes(b"\x00\x01" * 100)
    return folder


def test_a_uri_is_a_key_or_the_full_address_of_one(store: ArtifactStore) -> None:
    assert store.resolve("runs/a") == "runs/a"
    assert store.resolve(store.uri("runs/a b")) == "runs/a b"
    assert store.resolve(f"{store.local_path('runs')}/a") == "runs/a"


@pytest.mark.parametrize("uri", ["../x", "a/../../x", "/etc/passwd", "file:///etc/passwd", "s3://b/x", "", "a\0b"])
def test_a_uri_that_leads_out_of_the_store_is_refused_by_reason_and_field(store: ArtifactStore, uri: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        store.resolve(uri, field="dataset_uri")
    assert caught.value.reason == "URI_OUTSIDE_STORE"
    assert caught.value.violations[0].field == "dataset_uri"


def test_a_link_that_leads_out_of_the_store_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    store.write_bytes("a/b", b"")
    store.local_path("a/link").symlink_to(tmp_path)
    with pytest.raises(InvalidArgumentError):
        store.resolve("a/link/secret")


def test_a_failed_write_leaves_neither_a_file_nor_the_old_one_changed(store: ArtifactStore) -> None:
    store.write_bytes("a/part", b"old")

    def fail(stream: object) -> None:
        stream.write(b"half")  # type: ignore[attr-defined]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.write("a/part", fail)
    assert store.read_bytes("a/part") == b"old"
    assert list(store.list_files("a")) == ["a/part"]


def test_a_published_directory_is_fetched_as_it_was(store: ArtifactStore, checkpoint: Path) -> None:
    manifest = store.publish_directory(checkpoint, "runs/a/checkpoint")
    fetched = store.fetch_directory("runs/a/checkpoint")
    assert (fetched / "sub/weights.bin").read_bytes() == (checkpoint / "sub/weights.bin").read_bytes()
    assert [entry.path for entry in manifest.files] == ["config.json", "sub/weights.bin"]
    assert store.read_manifest("runs/a/checkpoint").digest == manifest.digest


def test_publishing_equal_content_twice_is_one_publication_and_other_content_is_refused(
    store: ArtifactStore, checkpoint: Path
) -> None:
    first = store.publish_directory(checkpoint, "c")
    inode = store.local_path("c/config.json").stat().st_ino
    assert store.publish_directory(checkpoint, "c") == first
    assert store.local_path("c/config.json").stat().st_ino == inode
    (checkpoint / "config.json").write_text('{"a": 1}')
    with pytest.raises(FailedPreconditionError) as caught:
        store.publish_directory(checkpoint, "c")
    assert caught.value.reason == "ALREADY_PUBLISHED"


def test_what_a_crash_left_without_a_manifest_does_not_exist_and_is_replaced(
    store: ArtifactStore, checkpoint: Path
) -> None:
    store.write_bytes("c/stale.bin", b"half")
    with pytest.raises(NotFoundError) as caught:
        store.fetch_directory("c")
    assert caught.value.reason == "CHECKPOINT_NOT_FOUND"
    store.publish_directory(checkpoint, "c")
    assert not store.local_path("c/stale.bin").exists()


@pytest.mark.parametrize("damage", ["change", "delete", "manifest"])
def test_a_damaged_directory_is_refused(store: ArtifactStore, checkpoint: Path, damage: str) -> None:
    store.publish_directory(checkpoint, "c")
    if damage == "change":
        store.local_path("c/sub/weights.bin").write_bytes(b"x" * 200)
    elif damage == "delete":
        store.local_path("c/config.json").unlink()
    else:
        store.local_path(f"c/{MANIFEST_NAME}").write_text("{")
    with pytest.raises(FailedPreconditionError) as caught:
        store.fetch_directory("c")
    assert caught.value.reason == "CHECKPOINT_BROKEN"


@given(st.lists(st.builds(FileEntry, st.text(alphabet="abc", min_size=1), st.integers(0), st.text("0f", min_size=1))))
def test_a_manifest_survives_its_json(entries: list[FileEntry]) -> None:
    manifest = Manifest(tuple(sorted(entries)))
    assert Manifest.from_json(manifest.to_json(), where="x") == manifest


def test_a_manifest_that_names_a_file_outside_is_refused() -> None:
    manifest = Manifest((FileEntry("../../x", 1, "0"),))
    with pytest.raises(FailedPreconditionError, match="outside"):
        Manifest.from_json(manifest.to_json(), where="x")
