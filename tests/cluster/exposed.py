"""What the services show on their metrics pages: names, and the labels of each."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from prometheus_client import CollectorRegistry

from ilf_common import telemetry
from ilf_common.front import status
from ilf_common.front.line import Line
from ilf_common.rpc.context import CallContext
from services.finetune.adapters.job_metrics import JobMetrics
from services.finetune.models import Condition, FinetuneJob, FinetuneKind, FinetuneSpec, JobState
from services.orchestrator.adapters.pool_metrics import PoolMetrics
from services.orchestrator.adapters.run_metrics import RunMetrics
from services.orchestrator.pools.board import PoolBoard
from services.orchestrator.pools.models import PoolRules
from services.orchestrator.run import Metric, Waiting
from services.ranking.adapters.metrics import PrometheusMetrics as RankingMetrics
from services.refinement.adapters.metrics import PrometheusMetrics as RefinementMetrics
from tests.unit.services.orchestrator.pools.runs import NOW, improving, run_of

Labels = dict[str, set[str]]


def exposed() -> Labels:
    """Every sample's name with its labels, each metric used once."""
    registry = CollectorRegistry()
    _orchestrator(registry)
    _finetune(registry)
    _serving(registry)
    with telemetry.measured(CallContext(component="test", service="s", method="m", request_id="r", deadline=None)):
        pass
    return {
        sample.name: set(sample.labels)
        for one in (registry, telemetry.REGISTRY)
        for family in one.collect()
        for sample in family.samples
    }


def _orchestrator(registry: CollectorRegistry) -> None:
    run = improving(run_of(), refined=20, ranked=10)
    run = run.with_iteration(replace(run.iteration(1), metrics={"score_spread": Metric(0.25)}))
    run = replace(run, waiting=Waiting("GPU_HAND_OVER", "Serving has not left its GPUs.", NOW))
    registry.register(RunMetrics(lambda: [run], lambda: NOW + timedelta(seconds=9)))
    registry.register(PoolMetrics(PoolBoard([PoolRules("refinement")], NOW).views))


def _finetune(registry: CollectorRegistry) -> None:
    job = FinetuneJob("ft-1", "r1", FinetuneSpec(FinetuneKind.SFT, "base", "d", "o"), JobState.PENDING, 0.0)
    job = job.explain(Condition("Scheduled", "QUOTA", "…", 0.0))
    registry.register(JobMetrics(lambda: [job]))


def _serving(registry: CollectorRegistry) -> None:
    line = Line(10, 2)
    registry.register(status.PoolMetrics("refinement", lambda: line.numbers))
    refinement = RefinementMetrics(registry)
    refinement.items_finished("model", "refine", "ok", 1)
    refinement.tokens("model", 1, 1)
    refinement.running("model", 1)
    ranking = RankingMetrics(registry)
    ranking.items_finished("instruct_rm", 1, 0)
    ranking.judges_chose(1, 0)
