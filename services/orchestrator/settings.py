"""Settings of the orchestrator."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from ilf_common.rpc.client import ChannelSettings
from ilf_common.settings import ServerSettings, SettingsBase, StoreSettings, TelemetrySettings


class LimitSettings(SettingsBase):
    """How much of a run is in flight.

    Attributes:
        shards_in_flight: Shards of one run at work at once.
        rank_rows: Rows of one ranking call.
        hand_over_seconds: How long a finetune job waits to be created until serving has left the GPUs to it.
    """

    shards_in_flight: int = Field(default=4, ge=1, le=256)
    rank_rows: int = Field(default=32, ge=1, le=4096)
    hand_over_seconds: float = Field(default=600.0, ge=0)


class PoolSettings(SettingsBase):
    """A pool of serving replicas that the scaler grows and shrinks.

    Attributes:
        front: How the pool's front is reached; it says how busy the pool is.
        min_replicas: Fewer are never asked for.
        max_replicas: More are never asked for.
        target_seconds: The backlog is to be worked off in this time.
        idle_seconds: So long replicas stay that are not needed any more.
        items_per_second: What one replica works off; a first guess, until it is measured.
        start_seconds: From the wish for a replica to one that is ready; a first guess too.
        hand_over: The pool shares its GPUs with training: it is let go before a finetune job is created.
    """

    front: ChannelSettings
    min_replicas: int = Field(default=0, ge=0)
    max_replicas: int = Field(default=1, ge=1)
    target_seconds: float = Field(default=60.0, gt=0)
    idle_seconds: float = Field(default=60.0, ge=0)
    items_per_second: float = Field(default=1.0, gt=0)
    start_seconds: float = Field(default=60.0, ge=0)
    hand_over: bool = False

    @model_validator(mode="after")
    def _limits_fit(self) -> PoolSettings:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is more than max_replicas {self.max_replicas}")
        return self


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
        database_seconds: How long a start waits for a PostgreSQL server that is not there yet.
        executor_id: Name of this instance; workflows are continued by the instance that began them.
        refinement, ranking, reward, finetune: How these services are reached; no reward service means no reward models.
        plugin: How users' programs are reached; their addresses come with each run.
        limits: How much is in flight.
        pools: Pools to scale, by the service that they serve; none where replicas are fixed or others scale them.
        scaler: Where KEDA finds its external scaler; None serves none. With `tls_client_ca_file` only KEDA may call.
        uploads: What callers may send.
    """

    server: ServerSettings = ServerSettings(port=50055, metrics_port=9105)
    telemetry: TelemetrySettings = TelemetrySettings()
    store: StoreSettings = StoreSettings()
    state_dir: Path = Path(".ilf/orchestrator")
    database_url: str | None = None
    database_seconds: float = Field(default=240.0, ge=0)
    executor_id: str = Field(default="orchestrator", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    refinement: ChannelSettings = ChannelSettings(address="127.0.0.1:50051")
    ranking: ChannelSettings = ChannelSettings(address="127.0.0.1:50052")
    reward: ChannelSettings | None = ChannelSettings(address="127.0.0.1:50053")
    finetune: ChannelSettings = ChannelSettings(address="127.0.0.1:50054")
    plugin: ChannelSettings = ChannelSettings(address="")
    limits: LimitSettings = LimitSettings()
    pools: dict[Literal["refinement", "ranking", "reward"], PoolSettings] = Field(default_factory=dict)
    scaler: ServerSettings | None = None
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
