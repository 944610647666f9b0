"""Runs that have not ended on the Prometheus page, as they are when it is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.orchestrator.run import Run, RunState, StageStatus

_LIVE = (RunState.PENDING, RunState.RUNNING, RunState.WAITING)
_STAGE_GAUGES: dict[str, tuple[str, Callable[[StageStatus], float]]] = {
    "rows": ("Rows of a stage (steps of finetune).", lambda stage: stage.progress.total),
    "rows_done": ("Rows that a stage has finished.", lambda stage: stage.progress.done),
    "rows_bad": ("Rows that failed in a stage.", lambda stage: stage.bad_rows),
    "tokens": ("Tokens that a stage has sampled.", lambda stage: stage.usage.completion_tokens),
}


class RunMetrics(Collector):
    """Gauges `ilf_runs`, `ilf_run_waiting_seconds`, `ilf_run_stage_…` and `ilf_run_measured`.

    Args:
        runs: The runs that have not ended.
        now: The time.
    """

    def __init__(self, runs: Callable[[], Sequence[Run]], now: Callable[[], datetime]) -> None:
        self._runs = runs
        self._now = now

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family a gauge."""
        runs = self._runs()
        states = Counter(run.state for run in runs)
        yield _family("ilf_runs", "Runs that have not ended.", ["state"], [((_name(s),), states[s]) for s in _LIVE])
        yield _family(
            "ilf_run_waiting_seconds",
            "How long a run has waited for something outside.",
            ["run", "reason"],
            [
                ((run.id, run.waiting.reason), (self._now() - run.waiting.since).total_seconds())
                for run in runs
                if run.waiting is not None
            ],
        )
        stages = [
            ((run.id, str(iteration.index), stage.stage), stage)
            for run in runs
            for iteration in run.iterations
            for stage in iteration.stages
        ]
        for name, (text, value) in _STAGE_GAUGES.items():
            found = [(labels, value(stage)) for labels, stage in stages]
            yield _family(f"ilf_run_stage_{name}", text, ["run", "iteration", "stage"], found)
        measured = [
            ((run.id, str(iteration.index), metric), one.value)
            for run in runs
            for iteration in run.iterations
            for metric, one in iteration.metrics.items()
        ]
        text = "What was measured of an iteration: exact_match, win_rate, score_spread (of the judges), and others."
        yield _family("ilf_run_measured", text, ["run", "iteration", "metric"], measured)


def _family(
    name: str, text: str, labels: list[str], samples: Sequence[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _name(state: RunState) -> str:
    return state.removeprefix("RUN_STATE_").lower()
