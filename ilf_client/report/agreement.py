"""How far the judges of an ensemble agree with it, with one another, and with mere length."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ilf_client.models.runs import Candidate, RunSample


@dataclass(frozen=True)
class JudgeAgreement:
    """One judge beside the ensemble.

    Attributes:
        judge: Its name.
        mean_score: Over all candidates.
        same_choice: Share of items in which it would have chosen the ensemble's candidate.
        correlation: Pearson correlation of its scores with the ensemble's, both centred per item; None if constant.
        missing_mass: Mean probability that it gave to neither answer.
    """

    judge: str
    mean_score: float
    same_choice: float
    correlation: float | None
    missing_mass: float


@dataclass(frozen=True)
class Agreement:
    """The ensemble of one iteration.

    Attributes:
        items: Items with at least two scored candidates.
        chance: Share of items in which a random judge would make the ensemble's choice.
        mean_spread: Mean standard deviation over judges.
        missing_mass: Mean over candidates.
        length_correlation: Pearson correlation of score and number of characters, centred per item.
        longest_chosen: Share of items whose longest candidate has the highest score.
        judges: By name.
    """

    items: int
    chance: float
    mean_spread: float
    missing_mass: float
    length_correlation: float | None
    longest_chosen: float
    judges: Sequence[JudgeAgreement]


class AgreementCounter:
    """Takes rows one by one; memory does not grow with their number."""

    def __init__(self) -> None:
        self._items = 0
        self._candidates = 0
        self._chance = self._spread = self._missing = 0.0
        self._longest = 0
        self._length = _Correlation()
        self._judges: dict[str, _JudgeCounter] = defaultdict(_JudgeCounter)

    def add(self, row: RunSample) -> None:
        """Counts a row; rows that failed or have fewer than two candidates say nothing about agreement."""
        candidates = row.candidates
        if row.error is not None or len(candidates) < 2:
            return
        scores = [candidate.score.score for candidate in candidates]
        lengths = [float(len(candidate.text)) for candidate in candidates]
        best = _argmax(scores)
        self._items += 1
        self._candidates += len(candidates)
        self._chance += 1 / len(candidates)
        self._spread += sum(candidate.score.spread for candidate in candidates)
        self._missing += sum(candidate.score.missing_mass for candidate in candidates)
        self._longest += _argmax(lengths) == best
        self._length.add(_centred(scores), _centred(lengths))
        for judge, judged in _by_judge(candidates).items():
            self._judges[judge].add([score for score, _ in judged], sum(mass for _, mass in judged), scores, best)

    def result(self) -> Agreement | None:
        """The agreement so far; None where no row could be counted."""
        if not self._items:
            return None
        return Agreement(
            items=self._items,
            chance=self._chance / self._items,
            mean_spread=self._spread / self._candidates,
            missing_mass=self._missing / self._candidates,
            length_correlation=self._length.value(),
            longest_chosen=self._longest / self._items,
            judges=[counter.result(judge) for judge, counter in sorted(self._judges.items())],
        )


class _JudgeCounter:
    def __init__(self) -> None:
        self.items = self.candidates = self.same = 0
        self.score = self.missing = 0.0
        self.correlation = _Correlation()

    def add(self, scores: list[float], missing: float, ensemble: list[float], best: int) -> None:
        self.items += 1
        self.candidates += len(scores)
        self.score += sum(scores)
        self.missing += missing
        self.same += _argmax(scores) == best
        self.correlation.add(_centred(scores), _centred(ensemble))

    def result(self, judge: str) -> JudgeAgreement:
        return JudgeAgreement(
            judge,
            self.score / self.candidates,
            self.same / self.items,
            self.correlation.value(),
            self.missing / self.candidates,
        )


class _Correlation:
    """Pearson's correlation of values that are centred already."""

    def __init__(self) -> None:
        self._xy = self._xx = self._yy = 0.0

    def add(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        self._xy += sum(x * y for x, y in zip(xs, ys, strict=True))
        self._xx += sum(x * x for x in xs)
        self._yy += sum(y * y for y in ys)

    def value(self) -> float | None:
        norm = math.sqrt(self._xx) * math.sqrt(self._yy)
        return self._xy / norm if norm > 0 and math.isfinite(norm) else None


def _by_judge(candidates: Sequence[Candidate]) -> dict[str, list[tuple[float, float]]]:
    """Scores and missing masses of the judges that scored every candidate."""
    judged: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for candidate in candidates:
        for score in candidate.score.judge_scores:
            judged[score.judge].append((score.score, score.missing_mass))
    return {judge: scores for judge, scores in judged.items() if len(scores) == len(candidates)}


def _centred(values: Sequence[float]) -> list[float]:
    mean = sum(values) / len(values)
    return [value - mean for value in values]


def _argmax(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)
