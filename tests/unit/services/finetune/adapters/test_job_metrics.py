from dataclasses import replace

from prometheus_client import CollectorRegistry

from services.finetune.adapters.job_metrics import JobMetrics
from services.finetune.models import Condition, FinetuneJob, FinetuneKind, FinetuneSpec, JobState, Progress


def test_jobs_are_counted_by_state_and_by_what_they_wait_for() -> None:
    spec = FinetuneSpec(FinetuneKind.SFT, "base", "d", "o")
    waiting = FinetuneJob("ft-1", "r1", spec, JobState.PENDING, 0.0).explain(Condition("Scheduled", "QUOTA", "…", 0.0))
    running = replace(waiting, state=JobState.RUNNING, progress=Progress(tokens_per_second=70.0))
    registry = CollectorRegistry()
    registry.register(JobMetrics(lambda: [waiting, running, running]))
    assert registry.get_sample_value("ilf_finetune_jobs", {"state": "running"}) == 2
    assert registry.get_sample_value("ilf_finetune_jobs", {"state": "failed"}) == 0
    assert registry.get_sample_value("ilf_finetune_waiting_jobs", {"reason": "QUOTA"}) == 1
    assert registry.get_sample_value("ilf_finetune_tokens_per_second") == 140.0
