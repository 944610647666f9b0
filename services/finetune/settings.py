"""Settings of the finetune service."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

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
        fsdp: Shard the model over the processes instead of copying it; only GPUs' processes do so.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    processes: int = Field(default=1, gt=0, le=64)
    threads: int = Field(default=0, ge=0)
    nice: int = Field(default=5, ge=0, le=19)
    attention: str = ""
    compile: bool = False
    fsdp: bool = False


class TrainerPodSettings(SettingsBase):
    """What the pods of one trainer are given; a placement overrides single fields of it.

    Attributes:
        nodes: Pods that train together.
        processes_per_node: Trainer processes of one pod; more than one process in all is started with torchrun.
        gpu_resource: Name of the GPU resource.
        gpus: GPUs of one pod.
        requests: Resources that a pod asks for, by name.
        limits: Resources that a pod may use, by name.
        node_selector: Labels of nodes that may run it.
        tolerations: Taints of nodes that do not keep it away, as Kubernetes objects.
        priority_class: Of the pods.
        queue: Kueue's LocalQueue that admits the job; "" admits it at once.
        env: Further environment variables.
        env_from_secrets: Secrets whose keys become environment variables.
        volumes: Further volumes, as Kubernetes objects.
        volume_mounts: Where they are mounted, as Kubernetes objects.
    """

    nodes: int = Field(default=1, gt=0, le=1024)
    processes_per_node: int = Field(default=1, gt=0, le=64)
    gpu_resource: str = "nvidia.com/gpu"
    gpus: int = Field(default=0, ge=0, le=64)
    requests: dict[str, str] = Field(default_factory=dict)
    limits: dict[str, str] = Field(default_factory=dict)
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ()
    priority_class: str = ""
    queue: str = ""
    env: dict[str, str] = Field(default_factory=dict)
    env_from_secrets: tuple[str, ...] = ()
    volumes: tuple[dict[str, Any], ...] = ()
    volume_mounts: tuple[dict[str, Any], ...] = ()


class KubernetesSettings(TrainerPodSettings):
    """Trainers as Kubernetes Jobs.

    Attributes:
        namespace: Where jobs live; "" is the namespace of the service's own pod, or that of the kubeconfig's context.
        instance: Tells this installation's objects from those of another one in the same namespace.
        image: Of the trainer.
        image_pull_policy: Of the trainer.
        image_pull_secrets: Names of secrets.
        service_account: Of the trainer's pods; they get no token whatever it is.
        kind: Objects that several nodes are made of: an Indexed Job, a JobSet, or a JobSet where there are any.
        placements: What a job may choose by name instead of the defaults above; only the fields that are set count.
        grace_seconds: Time that an evicted trainer has for a checkpoint.
        ttl_seconds: A finished Job and its pods are deleted after so long.
        keep_seconds: The record of a finished job and what is left of its work are deleted after so long.
        progress_seconds: How often the progress of running trainers is read from the store.
        resync_seconds: Every job is looked at so often, though changes in the cluster are seen as they happen.
    """

    namespace: str = ""
    instance: str = "ilf"
    image: str = ""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    service_account: str = "default"
    kind: Literal["auto", "job", "jobset"] = "auto"
    placements: dict[str, TrainerPodSettings] = Field(default_factory=dict)
    grace_seconds: int = Field(default=120, gt=0)
    ttl_seconds: int = Field(default=86_400, ge=0)
    keep_seconds: float = Field(default=30 * 86_400.0, gt=0)
    progress_seconds: float = Field(default=2.0, gt=0)
    resync_seconds: float = Field(default=5.0, gt=0)

    def pods(self, placement: str) -> TrainerPodSettings:
        """What the pods of a job with this placement are given; "" is the default."""
        chosen = self.placements[placement] if placement else TrainerPodSettings()
        return self.model_copy(update={name: getattr(chosen, name) for name in chosen.model_fields_set})


class FinetuneSettings(SettingsBase):
    """Settings of the finetune service.

    Attributes:
        server: Where and how it listens.
        telemetry: Logs and traces.
        store: The artifact store.
        backend: Where trainers run: as processes of this machine, or as Kubernetes Jobs.
        trainer: How trainers compute.
        kubernetes: The Jobs; for that backend only.
        models: Source (local directory or hub id) of base models by the name that requests use.
        model_roots: Directories below which requests may name base models by path.
        allow_hub: Requests may name any hub id; trainers then may fetch it.
        state_dir: Where jobs, their logs and their checkpoints lie; the kubernetes backend has no local state.
        max_running: Trainers at once; further jobs wait. The kubernetes backend leaves that to the cluster.
        max_attempts: Times a trainer is started before its job fails.
        stall_seconds: A trainer without a step for so long is ended and started again.
        poll_seconds: How often trainers are looked at while there are any.
    """

    server: ServerSettings = ServerSettings(port=50054, metrics_port=9104)
    telemetry: TelemetrySettings = TelemetrySettings()
    store: StoreSettings = StoreSettings()
    backend: Literal["local", "kubernetes"] = "local"
    trainer: TrainerSettings = TrainerSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    models: dict[str, str] = Field(default_factory=dict)
    model_roots: tuple[Path, ...] = ()
    allow_hub: bool = False
    state_dir: Path = Path(".ilf/finetune")
    max_running: int = Field(default=1, gt=0)
    max_attempts: int = Field(default=3, gt=0)
    stall_seconds: float = Field(default=1800.0, gt=0)
    poll_seconds: float = Field(default=0.2, gt=0)

    @model_validator(mode="after")
    def _an_image_is_named(self) -> FinetuneSettings:
        if self.backend == "kubernetes" and not self.kubernetes.image:
            raise ValueError("backend kubernetes needs kubernetes.image, the trainer's image")
        return self
