"""The evaluation of arms on a dataset, part by part, from answers that lie on the disk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from ilf_client.evaluation.arms import Answers, PolicySource, Source, check_arms, cluster_of, source_of
from ilf_client.evaluation.collecting import Collector, RowValues
from ilf_client.evaluation.files import as_json, owned, write_json
from ilf_client.evaluation.independence import Registrar, shared
from ilf_client.evaluation.measures import Measure, measures_of
from ilf_client.evaluation.metrics import Metric, all_metrics
from ilf_client.evaluation.parts import in_order
from ilf_client.evaluation.rows import Part, RowReader
from ilf_client.files import new_file
from ilf_client.models.evaluation import EvaluationResult, EvaluationSpec, Pairing

if TYPE_CHECKING:
    from ilf_client.aio.services import AsyncServices

ITEMS, RESULT = "items.jsonl", "result.json"


async def evaluate(
    client: AsyncServices,
    spec: EvaluationSpec,
    folder: Path,
    *,
    metrics: Mapping[str, Metric] | None = None,
    progress: Callable[[int], None] | None = None,
) -> EvaluationResult:
    """Measures arms, each figure with its standard error, its n and the smallest effect that it could have seen.

    A repeat after any end goes on where it stopped. Memory holds a few parts of 64 rows and the numbers of all rows.

    Args:
        client: The services.
        spec: What to measure.
        folder: A work folder of this machine; `result.json` and `items.jsonl` are its results.
        metrics: Further metrics by name, as functions of context and output.
        progress: Is told the number of rows that are measured.

    Raises:
        InvalidArgumentError: The spec cannot work.
        NotFoundError: There is no such dataset, policy, pool, file or reward model.
        FailedPreconditionError: reason POLICY_CHANGED or WORK_FOLDER_BUSY.
    """
    check_arms(spec)
    spec = replace(spec, pairings=spec.pairings or _every_two(spec))
    functions = all_metrics(spec.metrics, metrics or {})
    rows = RowReader(spec.dataset, spec.columns, spec.limit)
    with owned(folder):
        sources = {arm.name: await source_of(client, spec, arm, rows, folder) for arm in spec.arms}
        versions = {name: source.version for name, source in sources.items() if isinstance(source, PolicySource)}
        measures = await measures_of(client, spec, versions, rows, functions, folder)
        collector = Collector(spec.pairings, await _self_judged(client, spec, sources))
        dropped: Counter[str] = Counter()
        count = 0
        work = _Work(sources, measures)
        async with aclosing(in_order(rows.parts(), work.measured)) as parts:
            with new_file(folder / ITEMS) as stream:
                async for part in parts:
                    dropped.update(part.dropped)
                    count += len(part.rows)
                    for row in part.rows:
                        collector.add(row)
                        line = {"id": row.id, "cluster": row.cluster, "values": row.named}
                        stream.write(json.dumps(line, ensure_ascii=False) + "\n")
                    if progress is not None:
                        progress(len(part.rows))
        dropped.update(rows.dropped)
        result = EvaluationResult(
            figures=collector.figures(),
            rows=count,
            dropped=dict(sorted(dropped.items())),
            arms={name: source.label for name, source in sources.items()},
            items=str(folder / ITEMS),
        )
        write_json(folder / RESULT, {**as_json(result), "spec": as_json(spec)})
        return result


def _every_two(spec: EvaluationSpec) -> list[Pairing]:
    return [Pairing(first.name, second.name) for first, second in combinations(spec.arms, 2)]


async def _self_judged(
    client: AsyncServices, spec: EvaluationSpec, sources: Mapping[str, Source]
) -> dict[tuple[str, str, str], str]:
    """Why an evaluator's word on two arms is no independent one, by arm, rival and evaluator."""
    if not spec.evaluators:
        return {}
    registrar = Registrar(client)
    arms = {arm.name: await registrar.arm(arm, sources[arm.name].label) for arm in spec.arms}
    found = {}
    for evaluator in spec.evaluators:
        identity = await registrar.evaluator(evaluator)
        for pairing in spec.pairings:
            reasons = [
                f"{evaluator.name} shares {common} with what ranked for {name}"
                for name in (pairing.arm, pairing.rival)
                if (common := shared(identity, arms[name]))
            ]
            if reasons:
                found[pairing.arm, pairing.rival, evaluator.name] = "; ".join(reasons)
    return found


@dataclass(frozen=True)
class _MeasuredPart:
    rows: list[RowValues]
    dropped: Counter[str]


class _Work:
    """Answers and measures parts."""

    def __init__(self, sources: Mapping[str, Source], measures: Sequence[Measure]) -> None:
        self._sources = sources
        self._measures = measures

    async def measured(self, part: Part) -> _MeasuredPart:
        """The values of a part's rows, and what had to be left out."""
        dropped: Counter[str] = Counter()
        answers: dict[str, Answers] = {}
        for name, source in self._sources.items():
            answers[name] = await source.answers(part)
            dropped.update(f"{name}: {failure}" for failure in answers[name].failures)
        rows = [RowValues(row.id, cluster_of(row.context)) for row in part.rows]
        outputs = {name: found.outputs for name, found in answers.items()}
        for measure in self._measures:
            dropped.update(await measure(part, outputs, rows))
        return _MeasuredPart(rows, dropped)
