"""A sample as its page shows it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ilf_client.models.inference import JudgeScore
from ilf_client.models.runs import Candidate, RunSample
from services.console.views.diff import Piece, word_diff


@dataclass(frozen=True)
class Refinement:
    """One refinement of a sample.

    Attributes:
        index: Among the sample's refinements, from 0.
        candidate: Its text, score and weight.
        chosen: It is what is trained on, or would be.
        scored: It has a score.
        pieces: How it differs from the initial output.
    """

    index: int
    candidate: Candidate
    chosen: bool
    scored: bool
    pieces: Sequence[Piece]

    @property
    def judges(self) -> Sequence[JudgeScore]:
        """What each judge says."""
        return self.candidate.score.judge_scores


@dataclass(frozen=True)
class SampleView:
    """A sample with its refinements, the best first."""

    sample: RunSample
    refinements: Sequence[Refinement]

    @property
    def chosen(self) -> Refinement | None:
        """The chosen refinement; None where there is none."""
        return next((one for one in self.refinements if one.chosen), None)


def view(sample: RunSample) -> SampleView:
    """The sample with differences; the chosen refinement first, then by falling score."""
    best = sample.best_index
    found = [
        Refinement(
            index,
            candidate,
            index == best,
            bool(candidate.score.judge_scores) or candidate.score.score != 0,
            word_diff(sample.initial_output, candidate.text),
        )
        for index, candidate in enumerate(sample.candidates)
    ]
    found.sort(key=lambda one: (not one.chosen, -_finite(one.candidate.score.score), one.index))
    return SampleView(sample, found)


def _finite(score: float) -> float:
    return score if math.isfinite(score) else -math.inf


@dataclass(frozen=True)
class Pair:
    """An item in two iterations.

    Attributes:
        item_id: Of both.
        first: In the first.
        second: In the second; None where it is not there.
        same_context: Both speak of the same context.
        changes: How the second's chosen refinement differs from the first's.
    """

    item_id: str
    first: SampleView
    second: SampleView | None
    same_context: bool
    changes: Sequence[Piece]


def pairs(first: Iterable[RunSample], second: Mapping[str, RunSample]) -> list[Pair]:
    """Each item of the first with the same item of the second."""
    found = []
    for sample in first:
        other = second.get(sample.item_id)
        one, two = view(sample), view(other) if other else None
        changes: Sequence[Piece] = ()
        if one.chosen and two and two.chosen:
            changes = word_diff(one.chosen.candidate.text, two.chosen.candidate.text)
        same = other is not None and other.context == sample.context
        found.append(Pair(sample.item_id, one, two, same, changes))
    return found
