"""Settings of the refinement service."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, field_validator

from ilf_common.engine.settings import EngineSettings
from ilf_common.settings import ServerSettings, SettingsBase, StoreSettings, TelemetrySettings
from services.refinement.models import NAME_PATTERN


class RefinementSettings(SettingsBase):
    """Settings of the refinement service.

    Attributes:
        server: Where and how it listens.
        telemetry: Logs and traces.
        store: The artifact store that checkpoints are loaded from.
        engine: How every model is loaded and run.
        models: Source (local directory or hub id) by the name that requests use; all are ready before the service is.
        state_dir: Where loaded versions and aliases are written down.
        max_engines: Most engines at once, those of `models` included. Beyond it the version that was not used for the
            longest time gives up its engine and is loaded again by the next call that names it.
        max_queued_items: Most items of all calls in flight; further calls get RESOURCE_EXHAUSTED.
    """

    server: ServerSettings = ServerSettings(port=50051, metrics_port=9101)
    telemetry: TelemetrySettings = TelemetrySettings()
    store: StoreSettings = StoreSettings()
    engine: EngineSettings = EngineSettings()
    models: dict[str, str] = Field(default_factory=dict)
    state_dir: Path = Path(".ilf/refinement")
    max_engines: int = Field(default=8, gt=0)
    max_queued_items: int = Field(default=16384, gt=0)

    @field_validator("models")
    @classmethod
    def _names_and_sources(cls, models: dict[str, str]) -> dict[str, str]:
        for name, source in models.items():
            if not re.fullmatch(NAME_PATTERN, name):
                raise ValueError(f"{name!r} is no name for a model: use letters, digits, '.', '_', '-' and '/'")
            if not source:
                raise ValueError(f"model {name!r} needs a source: a local directory or a hub id")
        return models
