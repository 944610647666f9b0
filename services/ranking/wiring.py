"""Builds the service from its settings; the only place that chooses implementations."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from ilf.ranking.v1 import ranking_service_pb2_grpc as pb_grpc
from prometheus_client import CollectorRegistry

from ilf_common.rpc.server import serve
from ilf_common.telemetry import REGISTRY
from ilf_common.templates import load_templates
from services.ranking.adapters.metrics import PrometheusMetrics
from services.ranking.adapters.ray_serve import RayServeModels
from services.ranking.adapters.ray_serve_handle import EnsembleHandle
from services.ranking.catalog import JudgeCatalog
from services.ranking.models import JudgeRequest, TemplateRequest
from services.ranking.service import Limits, RankingService
from services.ranking.servicer import SERVICE_NAME, RankingServicer
from services.ranking.settings import JudgeSettings, RankingSettings

COMPONENT = "ranking"
TEMPLATES = Path(__file__).parent / "templates"

_Action = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Ranking:
    """The service, built but not started; `check_health` is None where there is nothing that could fail."""

    servicer: RankingServicer
    start: _Action
    stop: _Action
    check_health: _Action | None

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        """Adds the service to a server, and answers its name."""
        pb_grpc.add_RankingServiceServicer_to_server(self.servicer, server)
        return [SERVICE_NAME]


def build(
    settings: RankingSettings, *, models: EnsembleHandle | None = None, registry: CollectorRegistry = REGISTRY
) -> Ranking:
    """Builds the service; Ray starts only where there is a model to run in it.

    Args:
        settings: All of them.
        models: The models, where somebody else runs them; by default the service starts them itself.
        registry: Where metrics are registered.
    """
    models = models or RayServeModels(settings)
    service = RankingService(
        models,
        models if settings.embedding.enabled else None,
        build_catalog(settings),
        PrometheusMetrics(registry),
        Limits(**settings.limits.model_dump()),
    )
    servicer = RankingServicer(service)
    if settings.models or settings.embedding.enabled:
        return Ranking(servicer, models.start, models.stop, models.check_health)
    return Ranking(servicer, _nothing, _nothing, None)


def build_catalog(settings: RankingSettings) -> JudgeCatalog:
    """Judges, judge models and templates of the settings; judges that cannot judge are refused here.

    Raises:
        InvalidArgumentError: A judge's template is unknown or unfit.
    """
    catalog = JudgeCatalog(
        models=tuple(settings.models),
        template_sets={name: load_templates(TEMPLATES / name) for name in ("prefix", "paper")},
        comparison_templates=load_templates(TEMPLATES / "compare"),
        judges=tuple(map(_judge, settings.judges)),
        default_set=settings.template_set,
    )
    if settings.models:
        for template_set in catalog.template_sets:
            catalog.for_ranking((), template_set, "ranking")
    return catalog


async def run(
    settings: RankingSettings,
    *,
    models: EnsembleHandle | None = None,
    ready: Callable[[int], None] | None = None,
    stopping: asyncio.Event | None = None,
) -> None:
    """Serves until the process is told to stop, or its host says so."""
    ranking = build(settings, models=models)
    await serve(
        COMPONENT,
        settings.server,
        register=ranking.register,
        start=ranking.start,
        stop=ranking.stop,
        check_health=ranking.check_health,
        ready=ready,
        telemetry=settings.telemetry,
        stopping=stopping,
    )


def _judge(settings: JudgeSettings) -> JudgeRequest:
    template = settings.template
    if isinstance(template, str):
        return JudgeRequest(settings.name, settings.model, TemplateRequest(template))
    content = TemplateRequest(
        settings.name,
        template.text,
        template.target_prefix,
        template.positive_answers,
        template.negative_answers,
    )
    return JudgeRequest(settings.name, settings.model, content)


async def _nothing() -> None:
    pass
