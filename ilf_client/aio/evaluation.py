"""Best-of-N and evaluation over datasets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ilf_client.aio.services import AsyncServices
    from ilf_client.evaluation.metrics import Metric
    from ilf_client.models.comparison import RunComparison
    from ilf_client.models.evaluation import BestOfNResult, BestOfNSpec, EvaluationResult, EvaluationSpec
    from ilf_client.models.inference import RankerSpec
    from ilf_client.models.judges import JudgesReport


class AsyncEvaluation:
    """Measures policies on datasets of this machine; every call can be repeated and goes on where it stopped."""

    def __init__(self, client: AsyncServices) -> None:
        self._client = client

    async def best_of_n(
        self,
        spec: BestOfNSpec,
        folder: Path,
        *,
        metrics: Mapping[str, Metric] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> BestOfNResult:
        """Samples N outputs for every context of a dataset and keeps the best; see `evaluation.best_of_n`.

        Args:
            spec: What to do.
            folder: Where samples, scores and results lie.
            metrics: Further metrics by name: functions of context and output.
            progress: Is told the rows that are done.

        Raises:
            InvalidArgumentError: The spec cannot work.
            FailedPreconditionError: reason POOL_TOO_SMALL, POOL_MISMATCH, REWARD_NOT_FINITE, POLICY_CHANGED or
                WORK_FOLDER_BUSY.
        """
        from ilf_client.evaluation.best_of_n import best_of_n

        return await best_of_n(self._client, spec, folder, metrics=metrics, progress=progress)

    async def evaluate(
        self,
        spec: EvaluationSpec,
        folder: Path,
        *,
        metrics: Mapping[str, Metric] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> EvaluationResult:
        """Measures policies, columns, pools and files on the rows of a dataset; see `evaluation.evaluate`.

        Args:
            spec: What to measure.
            folder: Where answers and results lie.
            metrics: Further metrics by name: functions of context and output.
            progress: Is told the rows that are done.

        Raises:
            InvalidArgumentError: The spec cannot work.
            NotFoundError: There is no such dataset, policy, pool, file or reward model.
            FailedPreconditionError: reason POLICY_CHANGED or WORK_FOLDER_BUSY.
        """
        from ilf_client.evaluation.evaluate import evaluate

        return await evaluate(self._client, spec, folder, metrics=metrics, progress=progress)

    async def calibrate_judges(
        self,
        labelled: Path,
        folder: Path,
        *,
        ranker: RankerSpec | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> JudgesReport:
        """Measures judges on rows of which people said whether the feedback is incorporated.

        Args:
            labelled: JSON lines with `context`, `initial_output`, `feedback`, `refinement` and `incorporated`.
            folder: Where answers and the report lie.
            ranker: Judges instead of the server's own.
            progress: Is told the rows that are done.

        Raises:
            NotFoundError: reason DATASET_NOT_FOUND.
            InvalidArgumentError: No usable row, or all labels are the same.
        """
        from ilf_client.evaluation.judges import calibrate_judges

        return await calibrate_judges(self._client, labelled, folder, ranker=ranker, progress=progress)

    async def compare_runs(
        self, first: str, second: str, *, first_iteration: int | None = None, second_iteration: int | None = None
    ) -> RunComparison:
        """The metrics of two runs with their differences, second minus first, paired by item where items are the same.

        Args:
            first: A run.
            second: Another one, or the same.
            first_iteration: Of the first run. None: the newest with metrics.
            second_iteration: Of the second.

        Raises:
            NotFoundError: reason RUN_NOT_FOUND.
            FailedPreconditionError: reason NOT_MEASURED.
        """
        from ilf_client.evaluation.run_comparison import compare_runs

        return await compare_runs(
            self._client, first, second, first_iteration=first_iteration, second_iteration=second_iteration
        )
