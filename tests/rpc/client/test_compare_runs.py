"""Two runs side by side: pairs where the items are the same, independent means where they are not."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from click.testing import CliRunner
from ilf.orchestrator.v1 import orchestrator_service_pb2 as orchestrator
from scipy import stats

from ilf_client import AsyncClient
from ilf_client.cli.main import main
from ilf_common.errors import FailedPreconditionError
from services.orchestrator.adapters.shard_files import _SCHEMAS
from tests.fakes.evaluated_services import EvaluatedServices

ROWS = 60


@pytest.fixture
def values() -> dict[str, np.ndarray[Any, Any]]:
    """NLL of the same items under two runs: items differ much, the runs little."""
    random = np.random.default_rng(0)
    hard = random.normal(50, 20, ROWS)
    return {"one": hard, "two": hard - 1 + random.normal(0, 0.5, ROWS)}


@pytest.fixture
def services(values: dict[str, np.ndarray[Any, Any]]) -> EvaluatedServices:
    services = EvaluatedServices()
    for name, nll in values.items():
        metrics = {
            "nll": orchestrator.Metric(value=float(nll.mean()), standard_error=float(stats.sem(nll)), n=ROWS),
            f"only_{name}": orchestrator.Metric(value=1, n=3),
        }
        services.runs[f"runs/{name}"] = orchestrator.Run(
            name=f"runs/{name}",
            spec=orchestrator.RunSpec(dataset=orchestrator.DatasetSpec(test_uri="datasets/test.jsonl")),
            iterations=[
                orchestrator.Iteration(index=0, metrics=metrics),
                orchestrator.Iteration(index=1, metrics=metrics),
                orchestrator.Iteration(index=2),
            ],
        )
        services.directories[f"runs/{name}/it-1/evaluate"] = {
            f"part-{part:05d}.parquet": _part(nll, part) for part in range(2)
        }
    return services


def _part(nll: np.ndarray[Any, Any], part: int) -> bytes:
    """A part as the evaluate stage publishes it; its last row has failed."""
    ids = range(part * ROWS // 2, (part + 1) * ROWS // 2)
    rows = [{"item_id": f"i{k}", "nll": float(nll[k]), "nll_tokens": 10, "output_tokens": 4} for k in ids]
    rows.append({"item_id": f"bad{part}", "failed_stage": "evaluate", "nll": 1e6})
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows, schema=_SCHEMAS["evaluate"]), buffer)
    return buffer.getvalue()


async def test_the_same_items_are_compared_with_themselves(
    client: AsyncClient, values: dict[str, np.ndarray[Any, Any]]
) -> None:
    found = await client.evaluation.compare_runs("one", "two")
    assert (found.first_iteration, found.second_iteration) == (1, 1)
    nll = next(metric for metric in found.metrics if metric.name == "nll")
    gaps = values["two"] - values["one"]
    assert nll.paired and nll.difference is not None
    assert nll.difference.value == pytest.approx(gaps.mean())
    assert nll.difference.standard_error == pytest.approx(stats.sem(gaps))
    assert nll.difference.n == ROWS
    assert nll.smallest_detectable_effect == pytest.approx(2.8016 * stats.sem(gaps), rel=1e-4)


async def test_other_items_are_independent(
    client: AsyncClient, services: EvaluatedServices, values: dict[str, np.ndarray[Any, Any]]
) -> None:
    services.runs["runs/two"].spec.dataset.test_uri = "datasets/other.jsonl"
    nll = next(one for one in (await client.evaluation.compare_runs("one", "two")).metrics if one.name == "nll")
    assert not nll.paired and nll.difference is not None
    assert nll.difference.value == pytest.approx((values["two"] - values["one"]).mean())
    assert nll.difference.standard_error == pytest.approx(
        float(np.hypot(stats.sem(values["one"]), stats.sem(values["two"])))
    )


async def test_rows_that_are_not_published_leave_the_means(client: AsyncClient) -> None:
    found = await client.evaluation.compare_runs("one", "two", first_iteration=0, second_iteration=1)
    assert not any(metric.paired for metric in found.metrics)
    assert found.first_iteration == 0
    only = next(metric for metric in found.metrics if metric.name == "only_one")
    assert only.second is None and only.difference is None


async def test_an_iteration_without_metrics_is_refused(client: AsyncClient) -> None:
    with pytest.raises(FailedPreconditionError, match="no iteration 2 with metrics"):
        await client.evaluation.compare_runs("one", "two", first_iteration=2)


def test_the_commands_show_and_draw(server_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ILF_SERVER", server_address)
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(main, ["runs", "compare", "one", "two", "--plot", "plot.svg"])
    assert found.exit_code == 0, found.output
    assert "60 pairs" in found.output and "differs" in found.output
    assert "<svg" in (tmp_path / "plot.svg").read_text()
    as_json = CliRunner().invoke(main, ["runs", "compare", "one", "two", "--iteration", "0", "1", "-o", "json"])
    assert json.loads(as_json.output)["first_iteration"] == 0
    metrics = CliRunner().invoke(main, ["runs", "metrics", "one", "-o", "json"])
    assert json.loads(metrics.output)["1"]["nll"]["n"] == ROWS
    pytest.importorskip("tensorboardX")
    written = CliRunner().invoke(main, ["runs", "metrics", "one", "--to", "tensorboard", "--at", "board"])
    assert written.exit_code == 0, written.output
    assert list((tmp_path / "board" / "one").glob("events.*"))
