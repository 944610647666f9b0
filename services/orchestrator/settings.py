"""Settings of the orchestrator."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ilf_common.rpc.client import ChannelSettings
from ilf_common.settings import ServerSettings, SettingsBase, StoreSettings, TelemetrySettings


class LimitSettings(SettingsBase):
    """How much of a run is in flight.

    Attributes:
        shards_in_flight: Shards of one run at work at once.
        rank_rows: Rows of one ranking call.
    """

    shards_in_flight: int = Field(default=4, ge=1, le=256)
    rank_rows: int = Field(default=32, ge=1, le=4096)


class UploadSettings(SettingsBase):
    """What callers may send.

    Attributes:
        max_bytes: Largest dataset file.
    """

    max_bytes: int = Field(default=64 * 1024**3, gt=0)


class OrchestratorSettings(SettingsBase):
    """The settings tree.

    Attributes:
        server: How the server listens.
        telemetry: Traces and logs.
        store: The artifact store, the same for all services.
        state_dir: Folder for the lock and, by default, the database.
        database_url: SQLAlchemy URL; None means a SQLite file in `state_dir`. PostgreSQL:
            `postgresql://user@host/name`.
        executor_id: Name of this instance; workflows are continued by the instance that began them.
        refinement, ranking, finetune: How these services are reached.
        plugin: How users' programs are reached; their addresses come with each run.
        limits: How much is in flight.
        uploads: What callers may send.
    """

    server: ServerSettings = ServerSettings(port=50055, metrics_port=9105)
    telemetry: TelemetrySettings = TelemetrySettings()
    store: StoreSettings = StoreSettings()
    state_dir: Path = Path(".ilf/orchestrator")
    database_url: str | None = None
    executor_id: str = Field(default="orchestrator", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    refinement: ChannelSettings = ChannelSettings(address="127.0.0.1:50051")
    ranking: ChannelSettings = ChannelSettings(address="127.0.0.1:50052")
    finetune: ChannelSettings = ChannelSettings(address="127.0.0.1:50054")
    plugin: ChannelSettings = ChannelSettings(address="")
    limits: LimitSettings = LimitSettings()
    uploads: UploadSettings = UploadSettings()

    @property
    def resolved_database_url(self) -> str:
        """The URL in use, with the driver that is installed."""
        if self.database_url is None:
            return f"sqlite:///{self.state_dir.absolute() / 'orchestrator.sqlite'}"
        for prefix in ("postgresql://", "postgres://"):
            if self.database_url.startswith(prefix):
                return f"postgresql+psycopg://{self.database_url.removeprefix(prefix)}"
        return self.database_url
