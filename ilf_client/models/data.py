"""Datasets that were brought into the artifact store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Upload:
    """A dataset file in the store; `uri` is what a run's dataset names."""

    name: str
    sha256: str
    received_bytes: int = 0
    uri: str = ""
