"""The Serve deployments of ranking: one per judge model, one for embeddings, and the ensemble that calls them."""

from __future__ import annotations

import math
from typing import Any

from services.ranking.settings import CopiesSettings, EmbeddingSettings, JudgeModelSettings, RankingSettings

# Our front logs every call already.
LOGGING = {"enable_access_log": False, "log_level": "WARNING"}


def build_ensemble(settings: RankingSettings, gpus: float) -> Any:
    """The ensemble, bound to the models that it calls.

    Args:
        settings: The models.
        gpus: GPUs of the cluster, for models that do not say how many they want.
    """
    from ray import serve

    from services.ranking.adapters.ray_serve_replicas import EmbeddingReplica, EnsembleReplica, JudgeReplica

    share = _share(settings, gpus)

    def judge(name: str, model: JudgeModelSettings) -> Any:
        return serve.deployment(
            JudgeReplica,
            name=f"judge-{name}",
            max_ongoing_requests=model.max_ongoing_calls,
            health_check_period_s=5,
            health_check_timeout_s=60,
            **_copies(model, share),
        ).bind(model)

    def embedding(model: EmbeddingSettings) -> Any:
        options = _copies(model, share)
        return serve.deployment(EmbeddingReplica, name="embedding", max_ongoing_requests=32, **options).bind(model)

    ensemble = serve.deployment(
        EnsembleReplica,
        name="ensemble",
        # It only waits and averages: what bounds the work is the judges' own limit.
        max_ongoing_requests=1024,
        ray_actor_options={"num_cpus": 0, "resources": settings.ray.ingress_resources},
        logging_config=LOGGING,
        graceful_shutdown_timeout_s=5,
    )
    judges = {name: judge(name, model) for name, model in settings.models.items()}
    embeddings = embedding(settings.embedding) if settings.embedding.enabled else None
    kept = [judges[name] for name, model in settings.models.items() if model.is_kept]
    if embeddings is not None and settings.embedding.is_kept:
        kept.append(embeddings)
    return ensemble.bind(judges, embeddings, kept)


def _copies(copies: CopiesSettings, share: float) -> dict[str, Any]:
    """How many copies Serve keeps and what each reserves."""
    gpus = share if copies.gpus is None else copies.gpus
    return {
        **_number(copies),
        "ray_actor_options": {"num_cpus": 0, "num_gpus": gpus, "resources": copies.resources},
        "logging_config": LOGGING,
        "graceful_shutdown_timeout_s": 5,
    }


def _number(copies: CopiesSettings) -> dict[str, Any]:
    scaling = copies.autoscaling
    if scaling is None:
        return {"num_replicas": copies.replicas}
    # A call that waits is reason enough to start a copy: its caller has a deadline.
    return {
        "autoscaling_config": {
            "min_replicas": scaling.min_replicas,
            "max_replicas": scaling.max_replicas,
            "target_ongoing_requests": scaling.target_calls,
            "upscale_delay_s": 0,
            "downscale_delay_s": scaling.idle_seconds,
            "metrics_interval_s": 1,
            "look_back_period_s": 2,
        }
    }


def _share(settings: RankingSettings, gpus: float) -> float:
    """What each copy gets when all GPUs are shared out; whole GPUs, or hundredths of one."""
    copies = sum(model.replicas for model in settings.models.values())
    copies += settings.embedding.replicas if settings.embedding.enabled else 0
    return float(min(1.0, math.floor(100 * gpus / max(1, copies)) / 100))
