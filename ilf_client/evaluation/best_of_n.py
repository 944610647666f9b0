"""Best-of-N over a dataset: sample, score, choose, in two passes over parts that lie on the disk."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ilf_client.evaluation.files import as_json, owned, write_json
from ilf_client.evaluation.metrics import Metric, all_metrics, measure
from ilf_client.evaluation.parts import Record, Stage, failure_of, in_order
from ilf_client.evaluation.rows import Part, RowReader
from ilf_client.evaluation.sampling import Prompting, Version, pinned, sample
from ilf_client.evaluation.scoring import Candidates, Scorer, scorers_of
from ilf_client.files import new_file
from ilf_client.models.evaluation import BestOfNResult, BestOfNSpec, ScorerScale
from ilf_client.models.inference import SamplingParams
from ilf_common.datasets import DatasetRow
from ilf_common.errors import FailedPreconditionError, InvalidArgumentError
from ilf_common.statistics.best_of import BestOfCurve
from ilf_common.statistics.vectors import Vector

if TYPE_CHECKING:
    from ilf_client.aio.services import AsyncServices

MOST_SAMPLES = 1024
CHOSEN, RESULT, POOL = "chosen.jsonl", "result.json", "pool.json"

Progress = Callable[[int], None]
"""Is told how many rows are done."""


async def best_of_n(
    client: AsyncServices,
    spec: BestOfNSpec,
    folder: Path,
    *,
    metrics: Mapping[str, Metric] | None = None,
    progress: Progress | None = None,
) -> BestOfNResult:
    """Samples N outputs for every context, scores them, and keeps the best.

    All of it lies in `folder`, so that a repeat after any end goes on where it stopped and draws no sample twice; a
    later call with a smaller N, other scorers or more rows uses the samples that are there. Memory holds a few parts
    of 64 rows, whatever the size of the dataset.

    Args:
        client: The services.
        spec: What to do.
        folder: A work folder of this machine; `chosen.jsonl` and `result.json` are its results.
        metrics: Further metrics by name, as functions of context and output.
        progress: Is told the number of rows that are sampled and scored.

    Raises:
        InvalidArgumentError: The spec cannot work.
        FailedPreconditionError: reason POOL_TOO_SMALL (the folder holds fewer samples than N), POOL_MISMATCH (it holds
            samples of another policy, prompt or seed), REWARD_NOT_FINITE, POLICY_CHANGED or WORK_FOLDER_BUSY.
    """
    _check(spec)
    functions = all_metrics(spec.metrics, metrics or {})
    rows = RowReader(spec.dataset, spec.columns, spec.limit)
    version = await pinned(client, spec.policy)
    scorers = await scorers_of(client, spec.reward_models, spec.ranker, spec.n)
    with owned(folder):
        how = _prompting(spec, _pool_size(folder, spec, version))
        work = _Work(client, spec, folder, version, how, scorers)
        moments = [_Moments() for _ in scorers]
        async with aclosing(in_order(rows.parts(), work.scored)) as parts:
            async for part in parts:
                for item in part.items:
                    for moment, scores in zip(moments, item.scores, strict=True):
                        moment.add(scores)
                if progress is not None:
                    progress(part.rows)
        scales = [moment.scale(scorer.name) for moment, scorer in zip(moments, scorers, strict=True)]
        return await _choose(work, rows, scales, functions)


def _check(spec: BestOfNSpec) -> None:
    if not 1 <= spec.n <= MOST_SAMPLES:
        raise InvalidArgumentError.of("n", f"is {spec.n}; 1 to {MOST_SAMPLES} are allowed")
    if spec.sampling is not None and spec.sampling.n is not None:
        raise InvalidArgumentError.of("sampling.n", "leave it out: n says how many samples are drawn")
    if spec.post_processing is not None and spec.post_processing.resample_budget:
        raise InvalidArgumentError.of(
            "post_processing.resample_budget", "leave it out: samples drawn again are no longer independent of the rest"
        )


def _prompting(spec: BestOfNSpec, samples: int) -> Prompting:
    sampling = replace(spec.sampling or SamplingParams(), n=samples)
    return Prompting(sampling, spec.template, spec.post_processing, spec.seed)


def _pool_size(folder: Path, spec: BestOfNSpec, version: Version) -> int:
    """How many samples a context the folder's pool has; a new pool gets N."""
    key = as_json({"policy": str(version), **_prompting(spec, 0).key})
    file = folder / POOL
    if not file.is_file():
        write_json(file, {"n": spec.n, **key})
        return spec.n
    pool = json.loads(file.read_text(encoding="utf-8"))
    size = int(pool.pop("n"))
    different = sorted(name for name in key if key[name] != pool.get(name))
    if different:
        raise FailedPreconditionError(
            f"{folder} holds samples of another {' and '.join(different)}; name another folder.", reason="POOL_MISMATCH"
        )
    if spec.n > size:
        raise FailedPreconditionError(
            f"n is {spec.n}, but {folder} holds a pool of {size} samples a context; name another folder for {spec.n}.",
            reason="POOL_TOO_SMALL",
            metadata={"n": str(spec.n), "pool": str(size)},
        )
    return size


@dataclass(frozen=True)
class _ScoredItem:
    row: DatasetRow
    texts: tuple[str, ...]
    scores: tuple[Vector, ...]  # by scorer


@dataclass(frozen=True)
class _ScoredPart:
    rows: int
    items: list[_ScoredItem]
    dropped: Counter[str]


class _Work:
    """Samples and scores parts; what is done already is read back."""

    def __init__(
        self,
        client: AsyncServices,
        spec: BestOfNSpec,
        folder: Path,
        version: Version,
        how: Prompting,
        scorers: Sequence[Scorer],
    ) -> None:
        self._client = client
        self._how = how
        self.spec = spec
        self.folder = folder
        self.version = version
        self.scorers = scorers
        self._samples = Stage(folder, "samples", {"policy": str(version), **how.key})
        self._scores = [Stage(folder, "scores", scorer.key) for scorer in scorers]

    async def scored(self, part: Part) -> _ScoredPart:
        """The samples of a part with all their scores, and what had to be left out."""
        sampled = await sample(self._client, self.version, self._how, self._samples, part)
        dropped = Counter(failure_of(record) for record in sampled.values() if "error" in record)
        candidates = [
            Candidates(row.id, row.context, row.initial_output or "", row.feedback or "", self._texts(row, sampled))
            for row in part.rows
            if "error" not in sampled[row.id]
        ]
        tables = [
            await stage.part(part.index, candidates, scorer.ask)
            for stage, scorer in zip(self._scores, self.scorers, strict=True)
        ]
        items = []
        rows = {row.id: row for row in part.rows}
        for candidate in candidates:
            records = [table[candidate.item_id] for table in tables]
            failure = next((failure_of(record) for record in records if "error" in record), None)
            if failure is not None:
                dropped[failure] += 1
                continue
            scores = tuple(np.asarray(record["scores"], dtype=np.float64) for record in records)
            items.append(_ScoredItem(rows[candidate.item_id], candidate.texts, scores))
        return _ScoredPart(len(part.rows), items, dropped)

    def _texts(self, row: DatasetRow, sampled: Mapping[str, Record]) -> tuple[str, ...]:
        """N of the pool's samples; where it has more, by a lot that belongs to the row."""
        texts = [one["text"] for one in sampled[row.id]["samples"]]
        if len(texts) == self.spec.n:
            return tuple(texts)
        return tuple(random.Random(f"{self.spec.seed}/{row.id}").sample(texts, self.spec.n))


class _Moments:
    """Mean and deviation of a stream of scores (Chan's update)."""

    def __init__(self) -> None:
        self._count = 0
        self._mean = self._squares = 0.0

    def add(self, scores: Vector) -> None:
        count = self._count + scores.size
        step = float(scores.mean()) - self._mean
        self._squares += float(((scores - scores.mean()) ** 2).sum()) + step**2 * self._count * scores.size / count
        self._mean += step * scores.size / count
        self._count = count

    def scale(self, scorer: str) -> ScorerScale:
        return ScorerScale(scorer, self._mean, float(np.sqrt(self._squares / self._count)) if self._count else 0.0)


async def _choose(
    work: _Work, rows: RowReader, scales: Sequence[ScorerScale], metrics: Mapping[str, Metric]
) -> BestOfNResult:
    curve = BestOfCurve(work.spec.n)
    metric_curves = {name: BestOfCurve(work.spec.n) for name in metrics}
    dropped: Counter[str] = Counter()
    chosen = work.folder / CHOSEN
    count = 0
    async with aclosing(in_order(rows.parts(), work.scored)) as parts:
        with new_file(chosen) as stream:
            async for part in parts:
                dropped.update(part.dropped)
                for item in part.items:
                    scores = _combined(item.scores, scales)
                    curve.add(scores)
                    for name, metric in metrics.items():
                        values = [await measure(metric, name, item.row.context, text) for text in item.texts]
                        metric_curves[name].add(scores, values)
                    stream.write(_chosen_line(item, scores, scales))
                count += len(part.items)
    dropped.update(rows.dropped)
    result = BestOfNResult(
        policy=str(work.version),
        n=work.spec.n,
        items=count,
        dropped=dict(sorted(dropped.items())),
        scorers=scales,
        curve=curve.points(),
        metric_curves={name: found.points() for name, found in metric_curves.items()},
        chosen=str(chosen),
    )
    write_json(work.folder / RESULT, {**as_json(result), "spec": as_json(work.spec)})
    return result


def _combined(scores: Sequence[Vector], scales: Sequence[ScorerScale]) -> Vector:
    """One scorer's scores as they are; of several the mean, each on the scale of all samples."""
    if len(scores) == 1:
        return scores[0]
    standardised = [
        (one - scale.mean) / scale.deviation if scale.deviation > 0 else np.zeros_like(one)
        for one, scale in zip(scores, scales, strict=True)
    ]
    return np.asarray(np.mean(standardised, axis=0))


def _chosen_line(item: _ScoredItem, scores: Vector, scales: Sequence[ScorerScale]) -> str:
    best = int(scores.argmax())
    row: dict[str, Any] = {
        "id": item.row.id,
        "context": item.row.context,
        "output": item.texts[best],
        "index": best,
        "score": float(scores[best]),
        "scores": {scale.scorer: float(one[best]) for scale, one in zip(scales, item.scores, strict=True)},
    }
    return json.dumps(row, ensure_ascii=False) + "\n"
