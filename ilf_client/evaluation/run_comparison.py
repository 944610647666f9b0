"""Whether one run ended better than another: metrics side by side, item by item where both measured the same ones."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilf_client.models.comparison import ComparedMetric, RunComparison
from ilf_client.models.runs import Iteration, Metric, Run
from ilf_common.errors import FailedPreconditionError, NotFoundError
from ilf_common.statistics.estimates import paired_difference
from ilf_common.statistics.values import Estimate

if TYPE_CHECKING:
    from ilf_client.aio.services import AsyncServices

Values = Mapping[str, Mapping[str, float]]
"""Numbers by metric and item id."""

# What the metrics of an iteration are means of, in the rows that its evaluate stage has published.
_OF_ROW: Mapping[str, Callable[[Mapping[str, Any]], float | None]] = {
    "exact_match": lambda row: row["exact_match"],
    "nll": lambda row: row["nll"],
    "nll_per_token": lambda row: (
        row["nll"] / row["nll_tokens"] if row["nll"] is not None and row["nll_tokens"] else None
    ),
    "win_rate": lambda row: row["win"],
    "mean_length": lambda row: row["output_tokens"],
}
_COLUMNS = ("item_id", "failed_stage", "exact_match", "nll", "nll_tokens", "win", "output_tokens")


async def compare_runs(
    client: AsyncServices,
    first: str,
    second: str,
    *,
    first_iteration: int | None = None,
    second_iteration: int | None = None,
) -> RunComparison:
    """The metrics of two runs with their differences, second minus first.

    Two runs that evaluate on the same dataset have the same items: then differences are taken item by item, from the
    rows that both have published. Otherwise the two means are taken for independent.

    Args:
        client: The services.
        first: A run.
        second: Another one, or the same.
        first_iteration: Of the first run. None: the newest with metrics.
        second_iteration: Of the second.

    Raises:
        NotFoundError: reason RUN_NOT_FOUND.
        FailedPreconditionError: reason NOT_MEASURED; there is no such iteration with metrics.
    """
    runs = [await client.runs.get(name) for name in (first, second)]
    one, other = (_measured(run, wanted) for run, wanted in zip(runs, (first_iteration, second_iteration), strict=True))
    values: list[Values] = [{}, {}]
    if runs[0].spec.dataset.test_uri == runs[1].spec.dataset.test_uri:
        values = [await _rows(client, run, iteration.index) for run, iteration in zip(runs, (one, other), strict=True)]
    names = sorted({*one.metrics, *other.metrics})
    return RunComparison(
        runs[0].name,
        runs[1].name,
        one.index,
        other.index,
        [_compared(name, one.metrics.get(name), other.metrics.get(name), *values) for name in names],
    )


def _measured(run: Run, wanted: int | None) -> Iteration:
    found = [one for one in run.iterations if one.metrics and wanted in (None, one.index)]
    if not found:
        which = "no iteration" if wanted is None else f"no iteration {wanted}"
        raise FailedPreconditionError(f"{run.name} has {which} with metrics.", reason="NOT_MEASURED")
    return found[-1]


async def _rows(client: AsyncServices, run: Run, iteration: int) -> Values:
    """The numbers of an iteration's rows; none where they are not published."""
    import pyarrow.parquet as parquet

    values: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="ilf-") as folder:
        try:
            await client.data.pull(f"{run.name}/it-{iteration}/evaluate", Path(folder) / "rows")
        except NotFoundError:
            return {}
        for path in sorted((Path(folder) / "rows").glob("*.parquet")):
            for row in parquet.read_table(path, columns=list(_COLUMNS)).to_pylist():
                if row["failed_stage"] is None:
                    for name, of_row in _OF_ROW.items():
                        value = of_row(row)
                        if value is not None:
                            values.setdefault(name, {})[row["item_id"]] = float(value)
    return values


def _compared(name: str, first: Metric | None, second: Metric | None, ours: Values, theirs: Values) -> ComparedMetric:
    if first is None or second is None:
        return ComparedMetric(name, first, second)
    one, other = ours.get(name, {}), theirs.get(name, {})
    both = [item for item in one if item in other]
    if both:
        difference = paired_difference([other[item] for item in both], [one[item] for item in both])
    else:
        difference = _estimate(second) - _estimate(first)
    return ComparedMetric(name, first, second, difference, bool(both), difference.smallest_detectable_effect)


def _estimate(metric: Metric) -> Estimate:
    return Estimate(metric.value, metric.standard_error, metric.n)
