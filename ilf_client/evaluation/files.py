"""Files of a work folder: JSON that says the same in the same bytes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ilf_client.files import locked, new_file


def as_json(value: object) -> Any:
    """A value as JSON types, every field named; a number that is not finite becomes null: JSON has none."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value):
        return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(content) for key, content in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [as_json(content) for content in value]
    return value


def digest_of(value: object) -> str:
    """sha256 of a value's JSON."""
    text = json.dumps(as_json(value), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def seed_of(seed: int, *names: str) -> int:
    """A seed in [0, 2^63) that follows from another one and names, whatever else is drawn and when."""
    text = json.dumps([seed, *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def write_json(path: Path, value: object) -> None:
    """Writes a value as indented JSON."""
    with new_file(path) as stream:
        stream.write(json.dumps(as_json(value), ensure_ascii=False, indent=2) + "\n")


def owned(folder: Path) -> AbstractContextManager[None]:
    """Makes a work folder and keeps other processes out of it.

    Raises:
        FailedPreconditionError: reason WORK_FOLDER_BUSY; another process works there.
    """
    message = f"Another process works in {folder}; wait for it, or name another folder."
    return locked(folder / ".lock", message, "WORK_FOLDER_BUSY")
