"""Brings a run's local dataset files into the artifact store, where the services can read them."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ilf_client.models.specs import DatasetSpec, RunSpec
from ilf_common.artifacts.store import ArtifactStore
from ilf_common.errors import InvalidArgumentError

if TYPE_CHECKING:
    from ilf_client.sync import Client

SUFFIXES = (".jsonl", ".json", ".parquet")


@dataclass(frozen=True)
class LocalDataset:
    """A dataset file of this machine, and the key that its content gets in the store."""

    field: str
    path: Path
    key: str


def find_local_datasets(spec: RunSpec, folder: Path) -> list[LocalDataset]:
    """The dataset URIs of a spec that are files here, looked up below `folder` first, then in the working directory.

    Raises:
        InvalidArgumentError: A file whose name tells no known format.
    """
    found = []
    for field in fields(DatasetSpec):
        uri = getattr(spec.dataset, field.name)
        if not isinstance(uri, str) or not uri or "://" in uri:
            continue
        path = next((path for path in (folder / uri, Path(uri)) if path.is_file()), None)
        if path is None:
            continue
        if path.suffix not in SUFFIXES:
            raise InvalidArgumentError.of(f"dataset.{field.name}", f"{path} is none of {', '.join(SUFFIXES)}")
        found.append(LocalDataset(field.name, path, f"datasets/{_digest(path)}{path.suffix}"))
    return found


def publish_datasets(spec: RunSpec, datasets: list[LocalDataset], store: ArtifactStore) -> RunSpec:
    """Copies the files into the store, each once, and answers the spec that names them there."""
    for dataset in datasets:
        if not store.exists(dataset.key):
            with dataset.path.open("rb") as source:
                store.write(dataset.key, lambda target, source=source: shutil.copyfileobj(source, target))  # type: ignore[misc]
    return with_keys(spec, datasets)


def push_datasets(spec: RunSpec, datasets: list[LocalDataset], client: Client) -> RunSpec:
    """Sends the files to a store that only the services reach, and answers the spec that names them there."""
    uris = {dataset.field: client.data.push(dataset.path).uri for dataset in datasets}
    return replace(spec, dataset=replace(spec.dataset, **uris))  # type: ignore[arg-type]


def with_keys(spec: RunSpec, datasets: list[LocalDataset]) -> RunSpec:
    """The spec as it is sent: dataset files replaced by their keys in the store."""
    keys = {dataset.field: dataset.key for dataset in datasets}
    return replace(spec, dataset=replace(spec.dataset, **keys))  # type: ignore[arg-type]


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def count_rows(path: Path) -> int:
    """Rows of a dataset file, without reading it into memory."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as parquet

        return int(parquet.read_metadata(path).num_rows)
    with path.open("rb") as lines:
        return sum(1 for line in lines if line.strip())
