"""The places that specs name, looked up in the artifact store and in what the operator allows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ilf_common.artifacts import ArtifactStore
from ilf_common.errors import InvalidArgumentError, NotFoundError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_DATASET_FILES = (".jsonl", ".parquet")


class ArtifactSources:
    """Looks sources up before a job is created.

    Args:
        store: The artifact store.
        models: Sources (directory or hub id) of base models by name.
        model_roots: Directories below which a request may name a base model by path.
        allow_hub: Requests may name any hub id.
    """

    def __init__(
        self, store: ArtifactStore, models: Mapping[str, str], model_roots: Sequence[Path], *, allow_hub: bool
    ) -> None:
        self._store = store
        self._models = {name: _absolute(source) for name, source in models.items()}
        self._roots = tuple(root.resolve() for root in model_roots)
        self._allow_hub = allow_hub

    def resolve_base(self, name: str) -> str:
        """What a base model's name stands for."""
        if name in self._models:
            return self._models[name]
        if name in self._models.values():
            # Where the trainers' machines have it and this one does not, its operator knows best.
            return name
        path = Path(name)
        if path.is_dir() and self._is_allowed(path.resolve()):
            return str(path.resolve())
        key = self._key_of(name)
        if key is not None and self._store.has_manifest(key):
            self._store.read_manifest(key)
            return self._store.uri(key)
        if self._allow_hub and _HUB_ID.fullmatch(name) and not path.exists():
            return name
        if key is None or path.is_dir():
            raise InvalidArgumentError.of(
                "spec.base_model",
                f"{name!r} is no checkpoint of the artifact store, and this service may not read it: its operator has "
                f"to put it into `models` ({sorted(self._models)}) or `model_roots`",
            )
        raise NotFoundError(
            f"spec.base_model: there is no checkpoint {name!r} in the artifact store, and no model of that name.",
            resource_type="checkpoint",
            resource_name=name,
            reason="CHECKPOINT_NOT_FOUND",
        )

    def check_dataset(self, uri: str, field: str = "spec.dataset_uri") -> None:
        """Raises when there is no such dataset; `field` names it in the request."""
        key = self._store.resolve(uri, field=field)
        if self._store.exists(key):
            if key.endswith(_DATASET_FILES) or self._store.has_manifest(key):
                return
            raise InvalidArgumentError.of(field, f"{uri} must end in one of {list(_DATASET_FILES)}")
        raise NotFoundError(
            f"{field}: there is no dataset {uri!r} in the artifact store.",
            resource_type="dataset",
            resource_name=uri,
            reason="DATASET_NOT_FOUND",
        )

    def resolve_output(self, uri: str) -> str:
        """The one name of an output directory."""
        return self._store.resolve(uri, field="spec.output_uri")

    def _is_allowed(self, path: Path) -> bool:
        known = {Path(source) for source in self._models.values()}
        return path in known or any(path.is_relative_to(root) for root in self._roots)

    def _key_of(self, name: str) -> str | None:
        try:
            return self._store.resolve(name, field="spec.base_model")
        except InvalidArgumentError:
            if "://" in name:
                raise
            return None


def _absolute(source: str) -> str:
    """Relative directories are those of the service, not of its trainers."""
    return str(Path(source).resolve()) if Path(source).is_dir() else source
