"""A run's metrics in the places where people look at experiments; each library is imported only when it is asked for.

No text of a run leaves through here: names, numbers and digests only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from ilf_client.models.runs import Run
from ilf_common.errors import FailedPreconditionError, InvalidArgumentError

_PROJECT = "ilf"


def publish_metrics(run: Run, tracker: str, target: str = "") -> str:
    """Writes every metric of every iteration, with its standard error and n; the step is the iteration.

    Args:
        run: The run.
        tracker: `tensorboard`, `wandb` or `mlflow`.
        target: tensorboard: the folder of the event files, by default `runs`. wandb: the project; what else it needs
            comes from its own settings, such as WANDB_MODE=offline. mlflow: the tracking URI, by default that of
            MLFLOW_TRACKING_URI.

    Returns:
        Where they are.

    Raises:
        InvalidArgumentError: There is no such tracker.
        FailedPreconditionError: reason LIBRARY_MISSING, or NOT_MEASURED.
    """
    if tracker not in TRACKERS:
        raise InvalidArgumentError.of("tracker", f"{tracker!r} is none of {', '.join(TRACKERS)}")
    if not any(iteration.metrics for iteration in run.iterations):
        raise FailedPreconditionError(f"{run.name} has no metrics yet.", reason="NOT_MEASURED")
    return TRACKERS[tracker](run, target)


def _tensorboard(run: Run, target: str) -> str:
    folder = Path(target or "runs") / _id(run)
    with _library("tensorboardX").SummaryWriter(str(folder)) as writer:
        for step, values in _steps(run):
            for name, value in values.items():
                writer.add_scalar(name, value, step)
    return str(folder)


def _wandb(run: Run, target: str) -> str:
    started = _library("wandb").init(project=target or _PROJECT, name=_id(run), config=_facts(run))
    for step, values in _steps(run):
        started.log(values, step=step)
    started.finish()
    return str(started.dir)


def _mlflow(run: Run, target: str) -> str:
    client = _library("mlflow").MlflowClient(tracking_uri=target or None)
    experiment = client.get_experiment_by_name(_PROJECT)
    number = experiment.experiment_id if experiment else client.create_experiment(_PROJECT)
    started = client.create_run(number, run_name=_id(run))
    for name, fact in _facts(run).items():
        client.log_param(started.info.run_id, name, fact)
    for step, values in _steps(run):
        for name, value in values.items():
            client.log_metric(started.info.run_id, name, value, step=step)
    client.set_terminated(started.info.run_id)
    return f"run {started.info.run_id} of experiment {_PROJECT}"


TRACKERS: Mapping[str, Callable[[Run, str], str]] = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}


def _steps(run: Run) -> Iterator[tuple[int, dict[str, float]]]:
    for iteration in run.iterations:
        values = {}
        for name, metric in iteration.metrics.items():
            values[name] = metric.value
            values[f"{name}.standard_error"] = metric.standard_error
            values[f"{name}.n"] = float(metric.n)
        if values:
            yield iteration.index, values


def _facts(run: Run) -> dict[str, str]:
    return {"run": _id(run), "state": run.state.value, "policy": run.policy, "spec_digest": run.spec_digest}


def _id(run: Run) -> str:
    return run.name.removeprefix("runs/")


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise FailedPreconditionError(
            f"{name} is not installed here; install it with: pip install 'ilf[tracking]'", reason="LIBRARY_MISSING"
        ) from error
