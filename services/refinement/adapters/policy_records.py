"""Keeps loaded versions and aliases in a small JSON file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from ilf_common.errors import FailedPreconditionError
from services.refinement.models import PolicyAlias, PolicyKind, PolicyRecords, PolicyVersion

FILE_NAME = "policies.json"


class JsonPolicyRecords:
    """Records in `<folder>/policies.json`, replaced whole with every change.

    Args:
        folder: Created with the first change.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    def load(self) -> PolicyRecords:
        """What was saved last.

        Raises:
            FailedPreconditionError: reason STATE_UNREADABLE; the file is there and cannot be understood.
        """
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            return PolicyRecords(
                tuple(_version(row) for row in content["versions"]),
                tuple(PolicyAlias(**row) for row in content["aliases"]),
            )
        except FileNotFoundError:
            return PolicyRecords()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FailedPreconditionError(
                f"{self._path} cannot be read ({type(error).__name__}). Mend it, or move it away to start without the "
                "versions that were loaded.",
                reason="STATE_UNREADABLE",
            ) from error

    def save(self, records: PolicyRecords) -> None:
        """Writes aside, to the disk, then under the name."""
        content = {
            "versions": [_row(version) for version in records.versions],
            "aliases": [asdict(alias) for alias in records.aliases],
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_suffix(".json.new")
        with aside.open("w", encoding="utf-8") as stream:
            json.dump(content, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(self._path)


def _row(version: PolicyVersion) -> dict[str, Any]:
    return {**asdict(version), "kind": version.kind.value, "load_time": version.load_time.isoformat()}


def _version(row: dict[str, Any]) -> PolicyVersion:
    values = {**row, "kind": PolicyKind(row["kind"]), "load_time": datetime.fromisoformat(row["load_time"])}
    return PolicyVersion(**values)
