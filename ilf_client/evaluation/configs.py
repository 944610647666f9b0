"""What the files that a config names are called where the command is typed: beside the config first, then here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ilf_client.models.evaluation import BestOfNSpec, EvaluationSpec


def best_of_n_at_home(spec: BestOfNSpec, folder: Path) -> BestOfNSpec:
    """The spec with its paths as seen from here; `folder` is the config's."""
    return replace(spec, dataset=found(spec.dataset, folder))


def evaluation_at_home(spec: EvaluationSpec, folder: Path) -> EvaluationSpec:
    """The spec with its paths as seen from here; `folder` is the config's."""
    arms = [replace(arm, file=found(arm.file, folder), pool=found(arm.pool, folder)) for arm in spec.arms]
    return replace(spec, dataset=found(spec.dataset, folder), arms=arms)


def found(path: str, folder: Path) -> str:
    """The path of what lies below `folder`, or else as it is."""
    return str(folder / path) if path and "://" not in path and (folder / path).exists() else path
