"""The artifact store: a local folder by default, an object store by URL.

Everything that is too large for a control RPC lies here and travels by URI. Files appear whole or not at all;
directories exist from the moment their manifest does.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit

from ilf_common.artifacts.manifest import FileEntry, Manifest, broken, describe_directory, describe_stream
from ilf_common.errors import InvalidArgumentError, NotFoundError

MANIFEST_NAME = "_MANIFEST.json"
_READ_AHEAD_BYTES = 1024 * 1024


class ArtifactStore:
    """Files and directories below one root.

    A *key* is a path relative to the root ("runs/a/it-1/checkpoint"); a *URI* is what requests carry: a key, or the
    full address of something below the root.

    Args:
        root: A local folder (plain path or file://), or s3://bucket/prefix or gs://bucket/prefix. Credentials and
            endpoints of object stores come from their usual environment variables or the URL's query
            (`s3://bucket/prefix?endpoint_override=http://host:port&region=…`).
        cache: Where directories of an object store are kept after download. Default: a folder for this machine's
            temporary files.

    Attributes:
        root: The address that URIs begin with.
        location: What opens the same store in another process: the root with its options.
    """

    def __init__(self, root: str, *, cache: Path | None = None) -> None:
        parts = urlsplit(root)
        self._local = parts.scheme in ("", "file")
        if self._local:
            folder = Path(unquote(parts.path) if parts.scheme else root).expanduser().resolve()
            folder.mkdir(parents=True, exist_ok=True)
            self._base = str(folder)
            self.root = self.location = folder.as_uri()
        else:
            self._base = f"{parts.netloc}{parts.path}".rstrip("/")
            self.root = f"{parts.scheme}://{self._base}"
            self.location = root
        self._filesystem = _open_filesystem(root, local=self._local)
        self._cache = cache or Path(tempfile.gettempdir()) / "ilf-artifacts"

    def resolve(self, uri: str, *, field: str = "uri") -> str:
        """The key that a URI of a request means.

        Raises:
            InvalidArgumentError: reason URI_OUTSIDE_STORE; the URI leads out of the store. Names `field`.
        """
        key = self._relative(uri)
        if key is None or not key or key.startswith("/") or ".." in PurePosixPath(key).parts or "\0" in key:
            raise InvalidArgumentError.of(
                field, f"{uri!r} lies outside the artifact store {self.root}", reason="URI_OUTSIDE_STORE"
            )
        if self._local and not Path(self._base, key).resolve().is_relative_to(self._base):
            raise InvalidArgumentError.of(
                field, f"{uri!r} leads out of the artifact store through a link", reason="URI_OUTSIDE_STORE"
            )
        return str(PurePosixPath(key))

    def _relative(self, uri: str) -> str | None:
        """The part of a URI below the root, or None where it is not below it."""
        for prefix in (self.root, self._base) if self._local else (self.root,):
            if uri.startswith(prefix + "/"):
                return unquote(uri[len(prefix) + 1 :]) if "://" in prefix else uri[len(prefix) + 1 :]
        return None if "://" in uri else uri

    def uri(self, key: str) -> str:
        """The full address of a key."""
        return f"{self.root}/{key}"

    def exists(self, key: str) -> bool:
        """Whether there is a file at the key, or a directory with a manifest."""
        return bool(self._filesystem.isfile(self._path(key))) or self.has_manifest(key)

    def has_manifest(self, key: str) -> bool:
        """Whether a directory was published at the key."""
        return bool(self._filesystem.isfile(self._path(f"{key}/{MANIFEST_NAME}")))

    def size(self, key: str) -> int:
        """Bytes of a file that exists."""
        return int(self._filesystem.size(self._path(key)))

    def list_files(self, key: str) -> Iterator[str]:
        """Keys of the files below a directory, sorted; nothing where there is no such directory."""
        path = self._path(key)
        if self._filesystem.isdir(path):
            for found in sorted(self._filesystem.find(path)):
                yield f"{key}/{found[found.index(path) + len(path) + 1 :]}"

    def open(self, key: str) -> BinaryIO:
        """Opens a file for reading.

        Raises:
            NotFoundError: reason ARTIFACT_NOT_FOUND.
        """
        try:
            if self._local:
                return cast(BinaryIO, self._filesystem.open(self._path(key), "rb"))
            # Unbuffered, each byte of a line would be a request to the object store.
            file = self._filesystem.fs.open_input_file(self._path(key))
            return cast(BinaryIO, io.BufferedReader(file, _READ_AHEAD_BYTES))
        except FileNotFoundError as error:
            raise NotFoundError(
                f"There is no file {key} in the artifact store {self.root}.",
                resource_type="artifact",
                resource_name=key,
                reason="ARTIFACT_NOT_FOUND",
            ) from error

    def read_bytes(self, key: str) -> bytes:
        """The content of a file; errors as in `open`."""
        with self.open(key) as stream:
            return stream.read()

    def write_bytes(self, key: str, data: bytes) -> None:
        """Writes a file whole: aside, to the disk, then under its name."""
        self.write(key, lambda stream: stream.write(data))

    def write(self, key: str, writer: Callable[[BinaryIO], object]) -> None:
        """Writes a file whole with a function that fills a stream; nothing appears when the function raises."""
        if not self._local:
            self._upload(key, writer)
            return
        target = Path(self._base, key)
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            with aside.open("wb") as stream:
                writer(stream)
                stream.flush()
                os.fsync(stream.fileno())
            aside.replace(target)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)

    def _upload(self, key: str, writer: Callable[[BinaryIO], object]) -> None:
        """Fills a local file first, because closing a half-written upload would publish it."""
        with tempfile.TemporaryFile() as local:
            writer(cast(BinaryIO, local))
            local.seek(0)
            with self._filesystem.open(self._path(key), "wb") as remote:
                shutil.copyfileobj(local, remote)

    def delete(self, key: str) -> None:
        """Deletes a file or a directory; the manifest goes first, so that readers never see half of it."""
        with suppress(FileNotFoundError):
            self._filesystem.rm_file(self._path(f"{key}/{MANIFEST_NAME}"))
        self._remove(key)

    def publish_directory(self, folder: Path, key: str) -> Manifest:
        """Copies a local directory into the store, its manifest last. Publishing equal content again does nothing.

        Raises:
            FailedPreconditionError: reason ALREADY_PUBLISHED; other content is published under the key.
        """
        manifest = describe_directory(folder, exclude=frozenset({MANIFEST_NAME}))
        if self.has_manifest(key):
            return self._same_or_refuse(manifest, key)
        self._remove(key)
        for entry in manifest.files:
            with (folder / entry.path).open("rb") as source:
                self.write(f"{key}/{entry.path}", lambda target, source=source: shutil.copyfileobj(source, target))  # type: ignore[misc]
        self.write_bytes(f"{key}/{MANIFEST_NAME}", manifest.to_json())
        return manifest

    def _remove(self, key: str) -> None:
        try:
            self._filesystem.rm(self._path(key), recursive=True)
        except FileNotFoundError:
            return
        except OSError:
            # Gateways that keep objects in folders may refuse to delete a folder's marker before its objects are gone;
            # markers hold nothing, so they may stay.
            if next(self.list_files(key), None) is not None:
                raise

    def publish_manifest(self, key: str) -> Manifest:
        """Declares the files that lie below a key complete, as they are now."""
        prefix = len(key) + 1
        entries = []
        for name in self.list_files(key):
            if not PurePosixPath(name).name.startswith((".", MANIFEST_NAME)):
                entries.append(self.describe(name, relative=name[prefix:]))
        manifest = Manifest(tuple(sorted(entries)))
        self.write_bytes(f"{key}/{MANIFEST_NAME}", manifest.to_json())
        return manifest

    def describe(self, key: str, *, relative: str | None = None) -> FileEntry:
        """Size and sha256 of one file, as a manifest entry."""
        with self.open(key) as stream:
            return FileEntry(relative or key, *describe_stream(stream))

    def _same_or_refuse(self, manifest: Manifest, key: str) -> Manifest:
        published = self.read_manifest(key)
        if published.digest != manifest.digest:
            error = broken(self.uri(key), "other content was published there before")
            error.reason = "ALREADY_PUBLISHED"
            raise error
        return published

    def read_manifest(self, key: str) -> Manifest:
        """The manifest of a published directory.

        Raises:
            NotFoundError: reason CHECKPOINT_NOT_FOUND; nothing was published there.
            FailedPreconditionError: reason CHECKPOINT_BROKEN.
        """
        try:
            data = self.read_bytes(f"{key}/{MANIFEST_NAME}")
        except NotFoundError as error:
            raise NotFoundError(
                f"Nothing is published at {self.uri(key)}: it has no {MANIFEST_NAME}.",
                resource_type="checkpoint",
                resource_name=key,
                reason="CHECKPOINT_NOT_FOUND",
            ) from error
        return Manifest.from_json(data, where=self.uri(key))

    def fetch_directory(self, key: str) -> Path:
        """A published directory as a local path, every file checked against the manifest.

        A local store answers the directory itself, an object store a copy in the cache.

        Raises:
            NotFoundError, FailedPreconditionError: As `read_manifest`; also CHECKPOINT_BROKEN where a file is
                missing or differs.
        """
        manifest = self.read_manifest(key)
        folder = self.local_path(key) if self._local else self._download(key, manifest)
        for entry in manifest.files:
            path = folder / entry.path
            if not path.is_file():
                raise broken(self.uri(key), f"{entry.path} is missing")
            with path.open("rb") as stream:
                if describe_stream(stream) != (entry.size, entry.sha256):
                    raise broken(self.uri(key), f"{entry.path} does not match the manifest")
        return folder

    def _download(self, key: str, manifest: Manifest) -> Path:
        target = self._cache / manifest.digest
        if target.is_dir():
            return target
        aside = target.with_name(f".{manifest.digest}.{uuid.uuid4().hex}")
        for entry in manifest.files:
            path = aside / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            with self.open(f"{key}/{entry.path}") as source, path.open("wb") as copy:
                shutil.copyfileobj(source, copy)
        try:
            aside.rename(target)
        except OSError:
            # Another process has put the same content there meanwhile.
            shutil.rmtree(aside, ignore_errors=True)
        return target

    def local_path(self, key: str) -> Path:
        """Where a key lies on this machine.

        Raises:
            ValueError: The store is not local.
        """
        if not self._local:
            raise ValueError(f"{self.root} is not a local store")
        return Path(self._base, key)

    def _path(self, key: str) -> str:
        return f"{self._base}/{key}"


def _open_filesystem(root: str, *, local: bool) -> Any:
    """The store as fsspec sees it; object stores through pyarrow, which brings their client (docs/decisions/0001)."""
    if local:
        from fsspec.implementations.local import LocalFileSystem

        return LocalFileSystem()
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow import fs

    # Stores other than AWS's own do not all understand the checksums that its client adds unasked, and answer with a
    # damaged object; what is published here has a sha256 of its own in its manifest.
    os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    os.environ.setdefault("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")

    return ArrowFSWrapper(fs.FileSystem.from_uri(root)[0])


def _sync_folder(folder: Path) -> None:
    """Makes a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
