"""What the files of a config are called where the command is typed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ilf_client.models.evaluation import BestOfNSpec

SpecT = TypeVar("SpecT", bound=BestOfNSpec)


def at_home(spec: SpecT, config: Path) -> SpecT:
    """The spec with its dataset's path as seen from here; files are looked up beside the config first."""
    return replace(spec, dataset=found(spec.dataset, config.parent))


def found(path: str, folder: Path) -> str:
    """The path of a file below `folder`, or else as it is."""
    return str(folder / path) if "://" not in path and (folder / path).exists() else path
