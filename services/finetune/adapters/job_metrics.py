"""Jobs on the Prometheus page, as they are when it is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.finetune.models import FinetuneJob, JobState


class JobMetrics(Collector):
    """Gauges `ilf_finetune_jobs`, `ilf_finetune_waiting_jobs` and `ilf_finetune_tokens_per_second`.

    Args:
        jobs: All jobs.
    """

    def __init__(self, jobs: Callable[[], Sequence[FinetuneJob]]) -> None:
        self._jobs = jobs

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family a gauge."""
        jobs = self._jobs()
        states = Counter(job.state for job in jobs)
        by_state = GaugeMetricFamily("ilf_finetune_jobs", "Jobs that are known.", labels=["state"])
        for state in JobState:
            by_state.add_metric([state.value], states[state])
        yield by_state
        reasons = Counter(job.conditions[-1].reason for job in jobs if job.state is JobState.PENDING and job.conditions)
        waiting = GaugeMetricFamily("ilf_finetune_waiting_jobs", "Jobs that wait, by what for.", labels=["reason"])
        for reason, count in reasons.items():
            waiting.add_metric([reason], count)
        yield waiting
        tokens = sum(job.progress.tokens_per_second for job in jobs if job.state is JobState.RUNNING)
        yield GaugeMetricFamily("ilf_finetune_tokens_per_second", "Of all jobs that run.", value=tokens)
