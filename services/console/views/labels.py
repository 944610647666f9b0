"""What judges are worth where people have said whether the feedback was incorporated."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ilf_client.models.runs import RunSample
from ilf_client.models.tasks import ReviewTask, TaskState, Verdict
from ilf_common.statistics.values import ReliabilityBin

ENSEMBLE = "all judges together"
_LABELS = {Verdict.YES: 1.0, Verdict.PARTLY: 0.5, Verdict.NO: 0.0}


@dataclass(frozen=True)
class JudgeReliability:
    """One judge beside people.

    Attributes:
        judge: Its name.
        labels: Reviews of refinements that it has scored.
        bins: What it says against what people say.
        calibration_error: Mean distance between the two (ECE).
        brier: Mean squared distance between score and label.
    """

    judge: str
    labels: int
    bins: Sequence[ReliabilityBin]
    calibration_error: float
    brier: float


def answered(reviews: Iterable[ReviewTask], iteration: int) -> list[ReviewTask]:
    """Reviews of an iteration that people have answered."""
    return [
        review
        for review in reviews
        if review.state is TaskState.DONE and review.verdict in _LABELS and review.iteration == iteration
    ]


def shares(reviews: Sequence[ReviewTask]) -> dict[str, float]:
    """Share of each verdict."""
    counts = Counter(review.verdict for review in reviews)
    return {verdict.value: counts[verdict] / len(reviews) for verdict in _LABELS} if reviews else {}


def reliability(reviews: Sequence[ReviewTask], samples: Mapping[str, RunSample]) -> list[JudgeReliability]:
    """Each judge's scores beside people's verdicts (partly counts one half), the ensemble first.

    Scores that are no probabilities, as those of other rankers, say nothing here and are left out.
    """
    from ilf_common.statistics.calibration import brier_score, expected_calibration_error, reliability_bins

    scored: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for review in reviews:
        sample = samples.get(review.item_id)
        if sample is None or not 0 <= review.candidate < len(sample.candidates):
            continue
        score = sample.candidates[review.candidate].score
        for judge, value in [(ENSEMBLE, score.score), *((one.judge, one.score) for one in score.judge_scores)]:
            if 0 <= value <= 1 and score.judge_scores:
                scored[judge][0].append(value)
                scored[judge][1].append(_LABELS[review.verdict])
    found = []
    for judge, (said, labels) in scored.items():
        bins = reliability_bins(said, labels)
        found.append(
            JudgeReliability(judge, len(said), bins, expected_calibration_error(bins), brier_score(said, labels))
        )
    return found
