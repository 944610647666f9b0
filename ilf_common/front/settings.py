"""Settings that all fronts share."""

from __future__ import annotations

from pydantic import Field

from ilf_common.rpc.client import ChannelSettings
from ilf_common.settings import ServerSettings, SettingsBase, StoreSettings, TelemetrySettings

# A call that waits costs little here, while the workers behind bound what they take.
_CONCURRENT_CALLS = 32_768


def front_server(port: int, metrics_port: int) -> ServerSettings:
    """How a front listens unless it is told otherwise."""
    return ServerSettings(port=port, metrics_port=metrics_port, max_concurrent_rpcs=_CONCURRENT_CALLS)


class FrontSettings(SettingsBase):
    """Settings of a front.

    Attributes:
        server: Where and how it listens.
        telemetry: Logs and traces.
        store: The artifact store; what workers have to know is written down there.
        workers: How workers are reached. All addresses of the host are workers; with TLS their certificates must hold
            the name of this host.
        max_queued_items: Most items that wait for a worker; further calls get RESOURCE_EXHAUSTED.
        wait_seconds: Longest a call waits for a worker, also where it has no deadline of its own.
        worker_items: A worker gets new items while it has fewer than this many.
        resolve_seconds: Pause between two looks at the addresses.
    """

    server: ServerSettings
    telemetry: TelemetrySettings = TelemetrySettings()
    store: StoreSettings = StoreSettings()
    workers: ChannelSettings
    max_queued_items: int = Field(default=16384, gt=0)
    wait_seconds: float = Field(default=600.0, gt=0)
    worker_items: int = Field(default=64, gt=0)
    resolve_seconds: float = Field(default=1.0, gt=0)
