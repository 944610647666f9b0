"""Checkpoints in the artifact store, and the local sources of configured models."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

from ilf_common.artifacts import ArtifactStore, Manifest
from ilf_common.artifacts.manifest import describe_directory
from ilf_common.errors import FailedPreconditionError
from services.refinement.models import AdapterFacts, Checkpoint

_ADAPTER_CONFIG = "adapter_config.json"
_MODEL_CONFIG = "config.json"


class ArtifactCheckpoints:
    """Finds and verifies checkpoints in the artifact store; reading them happens in a thread.

    Args:
        store: The store that URIs are resolved in.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    async def open(self, uri: str) -> Checkpoint:
        """A checkpoint whose every file was checked against its manifest.

        Raises:
            InvalidArgumentError: reason URI_OUTSIDE_STORE.
            NotFoundError: reason CHECKPOINT_NOT_FOUND.
            FailedPreconditionError: reason CHECKPOINT_BROKEN or CHECKPOINT_UNSUPPORTED.
        """
        return await asyncio.to_thread(self._open, uri)

    def _open(self, uri: str) -> Checkpoint:
        key = self._store.resolve(uri)
        manifest = self._store.read_manifest(key)
        path = self._store.fetch_directory(key)
        files = {entry.path: entry.sha256 for entry in manifest.files}
        address = self._store.uri(key)
        if _ADAPTER_CONFIG in files:
            return Checkpoint(address, path, manifest.digest, files, _adapter_facts(path / _ADAPTER_CONFIG, address))
        if _MODEL_CONFIG not in files:
            raise _unsupported(address, f"it holds neither {_MODEL_CONFIG} nor {_ADAPTER_CONFIG}")
        return Checkpoint(address, path, manifest.digest, files)


class ModelSources:
    """Looks at what the settings name as models."""

    async def digest(self, source: str) -> str:
        """sha256 over the files of a local directory, as a manifest has it; over the name of a hub model."""
        if Path(source).is_dir():
            return (await asyncio.to_thread(_visible_files, Path(source))).digest
        return hashlib.sha256(source.encode()).hexdigest()

    async def same_model(self, one: str, other: str) -> bool:
        """Whether two sources can be one model: the same place, or two directories with equal configurations.

        A name that means nothing on this machine says nothing; the engine then finds out by the shapes.
        """
        if one == other:
            return True
        first, second = Path(one) / _MODEL_CONFIG, Path(other) / _MODEL_CONFIG
        if first.is_file() and second.is_file():
            return await asyncio.to_thread(lambda: _shape(first) == _shape(second))
        return not _is_hub_id(one) or not _is_hub_id(other)


def _visible_files(folder: Path) -> Manifest:
    manifest = describe_directory(folder)
    shown = [entry for entry in manifest.files if not any(part.startswith(".") for part in Path(entry.path).parts)]
    return Manifest(tuple(shown))


def _shape(config: Path) -> tuple[object, ...]:
    """What two copies of one model have in common, whichever library version wrote them."""
    content = json.loads(config.read_text(encoding="utf-8"))
    names = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    return tuple(content.get(name) for name in names)


def _is_hub_id(source: str) -> bool:
    return source.count("/") <= 1 and not source.startswith((".", "/", "~")) and not Path(source).exists()


def _adapter_facts(config: Path, address: str) -> AdapterFacts:
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
        return AdapterFacts(
            peft_type=str(content["peft_type"]).upper(),
            rank=max([int(content["r"]), *(int(rank) for rank in (content.get("rank_pattern") or {}).values())]),
            base=str(content.get("base_model_name_or_path") or ""),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise _unsupported(address, f"its {_ADAPTER_CONFIG} is no LoRA configuration") from error


def _unsupported(address: str, why: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"{address} cannot be served: {why}.", reason="CHECKPOINT_UNSUPPORTED", metadata={"uri": address}
    )
