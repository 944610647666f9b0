"""Builds the service from its settings; the only place that chooses implementations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
from ilf.refinement.v1 import refinement_service_pb2 as pb
from ilf.refinement.v1 import refinement_service_pb2_grpc as pb_grpc
from prometheus_client import CollectorRegistry

from ilf_common.artifacts import ArtifactStore
from ilf_common.engine.build import build_engine
from ilf_common.engine.port import TextEngine
from ilf_common.rpc.server import serve
from ilf_common.telemetry import REGISTRY
from ilf_common.templates import load_templates
from services.refinement.adapters.checkpoints import ArtifactCheckpoints, ModelSources
from services.refinement.adapters.metrics import PrometheusMetrics
from services.refinement.adapters.policy_records import JsonPolicyRecords
from services.refinement.aliases import AliasService
from services.refinement.ledger import PolicyLedger
from services.refinement.policies import PolicyService
from services.refinement.ports import EngineFactory
from services.refinement.queueing import ItemQueue
from services.refinement.rollout import Rollout
from services.refinement.service import InferenceService
from services.refinement.servicer import RefinementServicer
from services.refinement.serving import ServedModels
from services.refinement.settings import RefinementSettings

COMPONENT = "refinement"
SERVICE_NAME = pb.DESCRIPTOR.services_by_name["RefinementService"].full_name
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Refinement:
    """The service, built but not started."""

    servicer: RefinementServicer
    start: Callable[[], Awaitable[None]]
    stop: Callable[[], Awaitable[None]]
    check_health: Callable[[], Awaitable[None]]

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        """Adds the service to a server, and answers its name."""
        pb_grpc.add_RefinementServiceServicer_to_server(self.servicer, server)
        return [SERVICE_NAME]


def build(
    settings: RefinementSettings,
    *,
    engines: EngineFactory | None = None,
    registry: CollectorRegistry = REGISTRY,
) -> Refinement:
    """Builds the service.

    Args:
        settings: All of them.
        engines: Makes the engines; by default those that `settings.engine` names.
        registry: Where metrics are registered.
    """

    def configured_engine(source: str) -> TextEngine:
        return build_engine(source, settings.engine)

    models = ServedModels()
    metrics = PrometheusMetrics(registry)
    sources = ModelSources()
    ledger = PolicyLedger(models, JsonPolicyRecords(settings.state_dir))
    policies = PolicyService(
        models,
        Rollout(engines or configured_engine, sources, settings.engine.max_lora_rank),
        ArtifactCheckpoints(ArtifactStore(settings.store.root)),
        sources,
        ledger,
        metrics,
        lambda: datetime.now(UTC),
        max_engines=max(settings.max_engines, len(settings.models)),
    )
    queue = ItemQueue(settings.max_queued_items, metrics)
    inference = InferenceService(models, load_templates(TEMPLATES), queue, metrics)
    return Refinement(
        RefinementServicer(inference, policies, AliasService(models, ledger)),
        start=lambda: policies.start(settings.models),
        stop=policies.stop,
        check_health=policies.check_health,
    )


async def run(settings: RefinementSettings, *, ready: Callable[[int], None] | None = None) -> None:
    """Serves until the process is told to stop."""
    refinement = build(settings)
    await serve(
        COMPONENT,
        settings.server,
        register=refinement.register,
        start=refinement.start,
        stop=refinement.stop,
        check_health=refinement.check_health,
        ready=ready,
        telemetry=settings.telemetry,
    )
