"""The metrics page shows what runs do and wait for."""

from dataclasses import replace
from datetime import timedelta

from prometheus_client import CollectorRegistry, generate_latest

from services.orchestrator.adapters.run_metrics import RunMetrics
from services.orchestrator.run import Metric, Run, RunState, Waiting
from tests.unit.services.orchestrator.pools.runs import NOW, improving, run_of


def page(*runs: Run) -> list[str]:
    registry = CollectorRegistry()
    registry.register(RunMetrics(lambda: runs, lambda: NOW + timedelta(seconds=90)))
    return generate_latest(registry).decode().splitlines()


def test_states_are_counted_and_are_there_without_any_run() -> None:
    waits = replace(run_of(run_id="b"), state=RunState.WAITING)
    found = page(run_of(), waits)
    for line in ('{state="pending"} 0.0', '{state="running"} 1.0', '{state="waiting"} 1.0'):
        assert f"ilf_runs{line}" in found
    assert 'ilf_runs{state="running"} 0.0' in page()


def test_a_run_s_stages_and_measures_are_shown() -> None:
    run = improving(run_of(), refined=20, ranked=10)
    run = run.with_iteration(replace(run.iteration(1), metrics={"score_spread": Metric(0.25)}))
    found = page(run)
    assert 'ilf_run_stage_rows{iteration="1",run="a",stage="refine"} 100.0' in found
    assert 'ilf_run_stage_rows_done{iteration="1",run="a",stage="refine"} 20.0' in found
    assert 'ilf_run_measured{iteration="1",metric="score_spread",run="a"} 0.25' in found


def test_what_a_run_waits_for_is_timed() -> None:
    waits = replace(run_of(), waiting=Waiting("GPU_HAND_OVER", "Serving has not left its GPUs.", NOW))
    assert 'ilf_run_waiting_seconds{reason="GPU_HAND_OVER",run="a"} 90.0' in page(waits)
