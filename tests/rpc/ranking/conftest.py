"""A ranking server in this process whose judge models are instant engines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from ilf.ranking.v1 import ranking_service_pb2_grpc as pb_grpc
from prometheus_client import CollectorRegistry

import services.ranking
from ilf_common.templates import load_templates
from services.ranking.adapters.metrics import PrometheusMetrics
from services.ranking.catalog import JudgeCatalog
from services.ranking.ensemble import Ensemble
from services.ranking.service import Limits, RankingService
from services.ranking.servicer import SERVICE_NAME, RankingServicer
from tests.fakes.engine import FakeEngine
from tests.fakes.judges import InProcessJudgePool, WordOverlapEmbedder
from tests.support import running_channel

TEMPLATES = Path(services.ranking.__file__).parent / "templates"


@dataclass
class Ranking:
    """The server's parts within reach of a test."""

    stub: pb_grpc.RankingServiceAsyncStub
    pool: InProcessJudgePool
    embedder: WordOverlapEmbedder
    registry: CollectorRegistry


@pytest.fixture
async def ranking() -> AsyncIterator[Ranking]:
    pool = InProcessJudgePool({"small": FakeEngine("small", max_model_len=400), "large": FakeEngine("large")})
    embedder = WordOverlapEmbedder()
    catalog = JudgeCatalog(
        models=("small", "large"),
        template_sets={name: load_templates(TEMPLATES / name) for name in ("prefix", "paper")},
        comparison_templates=load_templates(TEMPLATES / "compare"),
    )
    registry = CollectorRegistry()
    limits = Limits(prompts_per_call=64, queued_items=100)
    service = RankingService(Ensemble(pool), embedder, catalog, PrometheusMetrics(registry), limits)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        pb_grpc.add_RankingServiceServicer_to_server(RankingServicer(service), server)
        return [SERVICE_NAME]

    async with running_channel(register, component="ranking") as channel:
        stub = pb_grpc.RankingServiceStub(channel)
        yield Ranking(stub, pool, embedder, registry)
