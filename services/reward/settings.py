"""Settings of the reward service."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from ilf_common.rpc.client import ChannelSettings
from ilf_common.settings import ServerSettings, SettingsBase, StoreSettings, TelemetrySettings


class ModelSettings(SettingsBase):
    """How reward models are loaded and run.

    Attributes:
        device: "auto" takes a GPU where there is one.
        dtype: Of the weights; "auto" is float32 on a CPU and bfloat16 on a GPU. Only float32 keeps a served reward
            within 1e-3 of the trainer's.
        attention: Attention implementation; None leaves the library's choice.
        max_length: Longest sequence in tokens; None takes the model's window.
        threads: Threads of one operator on a CPU; None leaves the library's choice.
        batch_tokens: Most tokens, padding included, of one forward pass.
        max_batch_size: Most sequences of one forward pass.
        max_queue: Sequences that may wait per model.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    attention: str | None = None
    max_length: int | None = Field(default=None, gt=1)
    threads: int | None = Field(default=None, gt=0)
    batch_tokens: int = Field(default=16_384, gt=0)
    max_batch_size: int = Field(default=64, gt=0)
    max_queue: int = Field(default=16_384, gt=0)


class RewardSettings(SettingsBase):
    """All settings of the reward service.

    Attributes:
        server: How it listens.
        telemetry: Logs and traces.
        store: Where reward models are published.
        model: How they are run.
        refinement: The service that samples for BestOfN.
        finetune: The service that trains.
        call_seconds: Time for a call to one of these two, where the caller of this service set no deadline.
        state_dir: Holds the list of loaded models over restarts.
    """

    server: ServerSettings = ServerSettings(port=50053, metrics_port=9103)
    telemetry: TelemetrySettings = TelemetrySettings()
    store: StoreSettings = StoreSettings()
    model: ModelSettings = ModelSettings()
    refinement: ChannelSettings = ChannelSettings(address="127.0.0.1:50051")
    finetune: ChannelSettings = ChannelSettings(address="127.0.0.1:50054")
    call_seconds: float = Field(default=600.0, gt=0)
    state_dir: Path = Path(".ilf/reward")
