"""Remembers loaded models in a small JSON file."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

from ilf_common.errors import FailedPreconditionError
from services.reward.models import StoredModel, StoredModels

_FORMAT = 1


class JsonMemory:
    """One file, replaced whole.

    Args:
        file: Its folder is made where it is missing.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> StoredModels:
        """What was written last; nothing where there is no file.

        Raises:
            FailedPreconditionError: reason STATE_BROKEN; the file was not written by this service.
        """
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']}")
            models = [
                StoredModel(row["name"], row["uri"], row["digest"], datetime.fromisoformat(row["load_time"]))
                for row in content["reward_models"]
            ]
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FailedPreconditionError(
                f"The state file {self._file} cannot be read. Delete it to start without reward models.",
                reason="STATE_BROKEN",
            ) from error
        return {model.name: model for model in models}

    def write(self, models: StoredModels) -> None:
        """Writes aside, to the disk, and then under the file's name."""
        rows = [
            {"name": model.name, "uri": model.uri, "digest": model.digest, "load_time": model.load_time.isoformat()}
            for model in models.values()
        ]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        aside = self._file.with_suffix(".new")
        with aside.open("w", encoding="utf-8") as stream:
            json.dump({"format": _FORMAT, "reward_models": rows}, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(self._file)
