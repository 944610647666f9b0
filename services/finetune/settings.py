"""Settings of the finetune service."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from ilf_common.settings import ServerSettings, SettingsBase, StoreSettings, TelemetrySettings


class TrainerSettings(SettingsBase):
    """How trainers compute.

    Attributes:
        device: "auto" takes a GPU where there is one.
        processes: Processes of one trainer; more than 1 starts them with torchrun.
        threads: Torch's threads per process on a CPU; 0 leaves torch's choice.
        nice: Added to the trainers' niceness, so that services that answer calls come first.
        attention: Attention implementation as transformers names it; "" leaves the model's choice.
        compile: Run the model through `torch.compile`.
        fsdp: Shard the model over the processes instead of copying it.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    processes: int = Field(default=1, gt=0, le=64)
    threads: int = Field(default=0, ge=0)
    nice: int = Field(default=5, ge=0, le=19)
    attention: str = ""
    compile: bool = False
    fsdp: bool = False


class FinetuneSettings(SettingsBase):
    """Settings of the finetune service.

    Attributes:
        server: Where and how it listens.
        telemetry: Logs and traces.
        store: The artifact store.
        trainer: How trainers compute.
        models: Source (local directory or hub id) of base models by the name that requests use.
        model_roots: Directories below which requests may name base models by path.
        allow_hub: Requests may name any hub id; trainers then may fetch it.
        state_dir: Where jobs, their logs and their checkpoints lie.
        max_running: Trainers at once; further jobs wait.
        max_attempts: Times a trainer is started before its job fails.
        stall_seconds: A trainer without a step for so long is ended and started again.
        poll_seconds: How often trainers are looked at while there are any.
    """

    server: ServerSettings = ServerSettings(port=50054, metrics_port=9104)
    telemetry: TelemetrySettings = TelemetrySettings()
    store: StoreSettings = StoreSettings()
    trainer: TrainerSettings = TrainerSettings()
    models: dict[str, str] = Field(default_factory=dict)
    model_roots: tuple[Path, ...] = ()
    allow_hub: bool = False
    state_dir: Path = Path(".ilf/finetune")
    max_running: int = Field(default=1, gt=0)
    max_attempts: int = Field(default=3, gt=0)
    stall_seconds: float = Field(default=1800.0, gt=0)
    poll_seconds: float = Field(default=0.2, gt=0)
