"""The calibration of InstructRM judges on rows that people have labelled."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ilf_client.evaluation.arms import cluster_of
from ilf_client.evaluation.files import as_json, digest_of, owned, write_json
from ilf_client.evaluation.parts import Record, Stage, failure_of, in_order
from ilf_client.evaluation.rows import PART_ROWS
from ilf_client.evaluation.scoring import Candidates, RankerScores
from ilf_client.models.inference import RankerSpec
from ilf_client.models.judges import JudgeReport, JudgesReport
from ilf_common.errors import InvalidArgumentError, NotFoundError
from ilf_common.rewards.report import Calibration
from ilf_common.statistics.calibration import (
    LOWEST_TEMPERATURE,
    brier_score,
    expected_calibration_error,
    fit_temperature,
    logits_of,
    reliability_bins,
    sigmoid,
)
from ilf_common.statistics.estimates import mean, wilson_interval
from ilf_common.statistics.lengths import slope_on_length
from ilf_common.statistics.vectors import Vector

if TYPE_CHECKING:
    from ilf_client.aio.services import AsyncServices

ENSEMBLE = "ensemble"
RESULT = "judges.json"
_TEXTS = ("context", "initial_output", "feedback", "refinement")
_LABELS = {True: True, False: False, "yes": True, "no": False}  # 1 and 0 are equal to True and False


@dataclass(frozen=True)
class Labelled:
    """A refinement, and whether it incorporates its feedback."""

    item: Candidates
    incorporated: bool


async def calibrate_judges(
    client: AsyncServices,
    labelled: Path,
    folder: Path,
    *,
    ranker: RankerSpec | None = None,
    progress: Callable[[int], None] | None = None,
) -> JudgesReport:
    """Asks the judges about every labelled row, and compares what they say with what people said.

    Args:
        client: The services.
        labelled: JSON lines with `context`, `initial_output`, `feedback`, `refinement` and `incorporated` (yes or no).
        folder: Where answers and the report lie; a repeat goes on there.
        ranker: Judges instead of the server's own.
        progress: Is told the number of rows that are judged.

    Raises:
        NotFoundError: reason DATASET_NOT_FOUND.
        InvalidArgumentError: No usable row, or all labels are the same.
    """
    scorer = RankerScores(client, ranker or RankerSpec())
    dropped: Counter[str] = Counter()
    found: list[_Scored] = []
    with owned(folder):
        stage = Stage(folder, "judged", scorer.key)

        async def judged(part: tuple[int, list[Labelled]]) -> tuple[list[Labelled], dict[str, Record]]:
            return part[1], await stage.part(part[0], [row.item for row in part[1]], scorer.ask)

        async with aclosing(in_order(_parts(labelled, dropped), judged)) as parts:
            async for rows, records in parts:
                for row in rows:
                    record = records[row.item.item_id]
                    if "error" in record:
                        dropped[failure_of(record)] += 1
                    else:
                        found.append(_Scored.of(row, record))
                if progress is not None:
                    progress(len(rows))
        report = _report(found, dropped)
        write_json(folder / RESULT, as_json(report))
    return report


def read_labelled(path: Path, dropped: Counter[str]) -> Iterator[Labelled]:
    """The usable rows of a labelled file; the others are counted by what is wrong with them.

    Raises:
        NotFoundError: reason DATASET_NOT_FOUND.
    """
    if not path.is_file():
        raise NotFoundError(
            f"there is no file {path}.", resource_type="dataset", resource_name=str(path), reason="DATASET_NOT_FOUND"
        )
    seen: set[str] = set()
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            row = _row(line, number)
            if isinstance(row, Labelled):
                digest = digest_of([row.item.context, row.item.initial_output, row.item.feedback, row.item.texts])
                if digest not in seen:
                    seen.add(digest)
                    yield row
                    continue
                row = "repeats an earlier row"
            dropped[row] += 1


def _row(line: str, number: int) -> Labelled | str:
    try:
        data = json.loads(line)
    except ValueError:
        return "is not valid JSON"
    if not isinstance(data, dict):
        return "is not a JSON object"
    for name in _TEXTS:
        if not isinstance(data.get(name), str):
            return f"{name}: is missing or no text"
    for name in ("context", "feedback"):
        if not data[name].strip():
            return f"{name}: is empty"
    label = data.get("incorporated")
    label = label.lower() if isinstance(label, str) else label
    if not isinstance(label, str | bool | int) or label not in _LABELS:
        return "incorporated: is neither yes nor no"
    item = Candidates(
        f"line-{number}", data["context"], data["initial_output"], data["feedback"], (data["refinement"],)
    )
    return Labelled(item, _LABELS[label])


def _parts(path: Path, dropped: Counter[str]) -> Iterator[tuple[int, list[Labelled]]]:
    rows = read_labelled(path, dropped)
    index = 0
    while chunk := list(islice(rows, PART_ROWS)):
        yield index, chunk
        index += 1


@dataclass(frozen=True)
class _Scored:
    """The numbers of one row."""

    cluster: str
    length: int
    label: bool
    scores: dict[str, float]

    @classmethod
    def of(cls, row: Labelled, record: Record) -> _Scored:
        judges: dict[str, float] = record["judges"][0]
        scores = {ENSEMBLE: record["scores"][0], **judges}
        return cls(cluster_of(row.item.context), len(row.item.texts[0]), row.incorporated, scores)


def _report(rows: list[_Scored], dropped: Counter[str]) -> JudgesReport:
    labels = np.array([row.label for row in rows], dtype=np.float64)
    if not rows or labels.min() == labels.max():
        raise InvalidArgumentError.of(
            "labelled", f"holds {len(rows)} usable rows, and needs some with each label; left out: {dict(dropped)}"
        )
    clusters = [row.cluster for row in rows]
    lengths = np.array([row.length for row in rows], dtype=np.float64)
    return JudgesReport(
        rows=len(rows),
        contexts=len(set(clusters)),
        dropped=dict(sorted(dropped.items())),
        incorporated=mean(labels, clusters),
        length_slope=slope_on_length(labels, lengths, clusters),
        judges=[
            _judge(name, np.array([row.scores[name] for row in rows]), labels, lengths, clusters)
            for name in rows[0].scores
        ],
    )


def _judge(name: str, scores: Vector, labels: Vector, lengths: Vector, clusters: list[str]) -> JudgeReport:
    hits = np.where(scores == 0.5, 0.5, (scores > 0.5) == (labels > 0.5)).astype(np.float64)
    interval = wilson_interval(float(hits.sum()), hits.size)
    logits = logits_of(scores)
    return JudgeReport(
        judge=name,
        accuracy=mean(hits, clusters),
        accuracy_low=interval.low,
        accuracy_high=interval.high,
        uncalibrated=_calibration(scores, labels),
        calibrated=_calibration(sigmoid(logits / _crosswise(logits, labels, clusters)), labels),
        temperature=_temperature(logits, labels),
        length_slope=slope_on_length(scores, lengths, clusters),
    )


def _crosswise(logits: Vector, labels: Vector, clusters: list[str]) -> Vector:
    """For each row the temperature that the other half of the contexts asks for."""
    first = np.array([int(cluster, 16) % 2 == 0 for cluster in clusters])
    temperatures = np.ones(logits.size)
    for half in (first, ~first):
        temperatures[half] = _temperature(logits[~half], labels[~half])
    return temperatures


def _temperature(logits: Vector, labels: Vector) -> float:
    """1 where there is nothing to fit, or where the scores separate the labels: then none is too low."""
    fitted = fit_temperature(logits, labels) if logits.size else 1.0
    return 1.0 if fitted <= LOWEST_TEMPERATURE else fitted


def _calibration(scores: Vector, labels: Vector) -> Calibration:
    bins = reliability_bins(scores, labels)
    return Calibration(expected_calibration_error(bins), brier_score(scores, labels), bins)
