"""Bulk data by URI: one store, and manifests that say what is complete."""

from ilf_common.artifacts.manifest import FileEntry, Manifest
from ilf_common.artifacts.store import MANIFEST_NAME, ArtifactStore

__all__ = ["MANIFEST_NAME", "ArtifactStore", "FileEntry", "Manifest"]
