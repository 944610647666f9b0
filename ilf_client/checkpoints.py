"""Copies checkpoints into and out of the artifact store."""

from __future__ import annotations

import shutil
from pathlib import Path

from ilf_client.files import require_empty
from ilf_common.artifacts.manifest import Manifest
from ilf_common.artifacts.store import ArtifactStore
from ilf_common.errors import InvalidArgumentError


def pull(store: ArtifactStore, uri: str, folder: Path) -> Manifest:
    """Copies a published directory to this machine, every file verified against its manifest.

    Raises:
        InvalidArgumentError: The URI leads out of the store.
        NotFoundError: Nothing is published there.
        FailedPreconditionError: The checkpoint is broken, or the folder is not empty.
    """
    key = store.resolve(uri)
    require_empty(folder)
    source = store.fetch_directory(key)
    manifest = store.read_manifest(key)
    for entry in manifest.files:
        target = folder / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / entry.path, target)
    return manifest


def push(store: ArtifactStore, folder: Path, uri: str) -> Manifest:
    """Publishes a local model directory, manifest last.

    Raises:
        InvalidArgumentError: The folder is no model directory, or the URI leads out of the store.
        FailedPreconditionError: Other content is published there.
    """
    if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise InvalidArgumentError.of(
            "folder", f"{folder} holds neither config.json nor adapter_config.json: it is no Hugging Face directory"
        )
    return store.publish_directory(folder, store.resolve(uri))
