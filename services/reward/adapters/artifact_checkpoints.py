"""Reward models in the artifact store."""

from __future__ import annotations

from pathlib import Path

from ilf_common.artifacts import ArtifactStore


class ArtifactCheckpoints:
    """Directories below the store's root.

    Args:
        store: Where the trainer publishes.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def digest(self, uri: str) -> str:
        """The digest of the directory's manifest."""
        return self._store.read_manifest(self._store.resolve(uri)).digest

    def fetch(self, uri: str) -> Path:
        """The directory on this machine, checked against its manifest."""
        return self._store.fetch_directory(self._store.resolve(uri))
