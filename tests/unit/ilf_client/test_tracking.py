"""A run's metrics in TensorBoard, Weights & Biases and MLflow, read back as far as their libraries are installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ilf_client.models.runs import Iteration, Metric, Run
from ilf_client.models.specs import RunSpec
from ilf_client.tracking import publish_metrics
from ilf_common.errors import FailedPreconditionError, InvalidArgumentError

RUN = Run(
    "runs/toy",
    RunSpec(),
    iterations=[
        Iteration(0, metrics={"win_rate": Metric(0.5, 0.05, 100)}),
        Iteration(1, metrics={"win_rate": Metric(0.625, 0.0625, 64), "nll": Metric(2.0, 0.25, 8)}),
    ],
    policy="toy/it-1",
    spec_digest="abc",
)


def test_tensorboard_has_every_metric_by_iteration(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    folder = Path(publish_metrics(RUN, "tensorboard", str(tmp_path)))
    assert folder == tmp_path / "toy"
    (file,) = folder.glob("events.*")
    found = {}
    data, offset = file.read_bytes(), 0
    while offset < len(data):  # TFRecord: length, its checksum, the record, its checksum
        size = int.from_bytes(data[offset : offset + 8], "little")
        event = Event.FromString(data[offset + 12 : offset + 12 + size])
        offset += 16 + size
        found.update({(value.tag, event.step): value.simple_value for value in event.summary.value})
    assert found == {
        ("win_rate", 0): 0.5,
        ("win_rate.standard_error", 0): pytest.approx(0.05),
        ("win_rate.n", 0): 100,
        ("win_rate", 1): 0.625,
        ("win_rate.standard_error", 1): 0.0625,
        ("win_rate.n", 1): 64,
        ("nll", 1): 2,
        ("nll.standard_error", 1): 0.25,
        ("nll.n", 1): 8,
    }


def test_mlflow_has_every_metric_by_iteration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    where = publish_metrics(RUN, "mlflow", uri)
    client = mlflow.MlflowClient(tracking_uri=uri)
    (found,) = client.search_runs([client.get_experiment_by_name("ilf").experiment_id])
    assert found.info.run_id in where
    assert found.data.params["spec_digest"] == "abc"
    history = client.get_metric_history(found.info.run_id, "win_rate")
    assert [(metric.step, metric.value) for metric in history] == [(0, 0.5), (1, 0.625)]
    assert found.info.status == "FINISHED"


def test_wandb_writes_its_own_files_when_it_is_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    where = Path(publish_metrics(RUN, "wandb", "study"))
    assert where.is_relative_to(tmp_path)
    (log,) = where.parent.glob("*.wandb")
    content = log.read_bytes()
    assert b"win_rate.standard_error" in content and b"abc" in content


def test_what_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArgumentError, match="comet"):
        publish_metrics(RUN, "comet")
    with pytest.raises(FailedPreconditionError, match="no metrics yet"):
        publish_metrics(Run("runs/new", RunSpec()), "tensorboard", str(tmp_path))
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(FailedPreconditionError, match="pip install 'ilf\\[tracking\\]'") as caught:
        publish_metrics(RUN, "tensorboard", str(tmp_path))
    assert caught.value.reason == "LIBRARY_MISSING"
