"""Samples, labels, losses and versions as the pages show them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ilf_client import Candidate, CandidateScore, JudgeScore, Policy, ReviewTask, Run, RunSample, RunSpec
from ilf_client.models.jobs import JobProgress, LossPoint
from ilf_client.models.specs import Schedule
from ilf_client.models.tasks import TaskState, Verdict
from services.console.views.diff import Change
from services.console.views.jobs import loss_points
from services.console.views.labels import ENSEMBLE, answered, reliability, shares
from services.console.views.policies import promotion, runs_of, version
from services.console.views.samples import pairs, view


def candidate(text: str, score: float, weight: float = 0.0) -> Candidate:
    return Candidate(text, CandidateScore(score, [JudgeScore("one", score)]), weight)


def review(item: str, verdict: Verdict, **changes: Any) -> ReviewTask:
    known = {"state": TaskState.DONE, "iteration": 1, "candidate": 0, **changes}
    return ReviewTask(f"runs/a/reviewTasks/{item}", item, "", "", "", "", verdict=verdict, **known)


def test_the_chosen_refinement_comes_first_then_the_best() -> None:
    sample = RunSample(
        "a", candidates=[candidate("x", 0.2), candidate("y", 0.1, 1.0), candidate("z", 0.9)], chosen_index=1
    )
    assert [(one.index, one.chosen) for one in view(sample).refinements] == [(1, True), (2, False), (0, False)]


def test_scores_that_are_no_numbers_come_last() -> None:
    sample = RunSample(
        "a", candidates=[candidate("x", float("nan")), candidate("y", 0.1, 1.0), candidate("z", 0.9)], chosen_index=1
    )
    assert [one.index for one in view(sample).refinements] == [1, 2, 0]


def test_items_are_paired_with_the_differences_of_what_was_chosen() -> None:
    first = RunSample("a", context="c", candidates=[candidate("good dog", 0.5, 1.0)])
    second = RunSample("a", context="c", candidates=[candidate("good cat", 0.5, 1.0)])
    (pair,) = pairs([first], {"a": second})
    assert pair.same_context
    assert [(piece.change, piece.text) for piece in pair.changes if piece.change is not Change.SAME] == [
        (Change.GONE, "dog"),
        (Change.NEW, "cat"),
    ]
    assert pairs([first], {})[0].second is None


def test_judges_stand_against_people_and_partly_is_one_half() -> None:
    reviews = [review("a", Verdict.YES), review("b", Verdict.PARTLY), review("c", Verdict.NO)]
    samples = {name: RunSample(name, candidates=[candidate("t", 0.75)]) for name in "abc"}
    ensemble, one = reliability(reviews, samples)
    assert (ensemble.judge, one.judge, ensemble.labels) == (ENSEMBLE, "one", 3)
    assert ensemble.bins[0].positive_share == pytest.approx(0.5)
    assert ensemble.calibration_error == pytest.approx(0.25)
    assert shares(reviews) == {"yes": 1 / 3, "partly": 1 / 3, "no": 1 / 3}


def test_what_says_nothing_of_judges_is_left_out() -> None:
    open_one = review("a", Verdict.UNSPECIFIED, state=TaskState.OPEN)
    assert answered([open_one, review("b", Verdict.NO, iteration=2), review("c", Verdict.NO)], 1)[0].item_id == "c"
    scored = {"a": RunSample("a", candidates=[candidate("t", 17.0)])}
    assert reliability([review("a", Verdict.YES)], scored) == [], "a reward is no probability"
    assert reliability([review("a", Verdict.YES, candidate=5)], scored) == []
    assert reliability([review("gone", Verdict.YES)], scored) == []
    assert shares([]) == {}


def test_losses_are_those_of_the_curve_and_the_newest() -> None:
    told = [LossPoint(4, 3.0), LossPoint(8, 2.0)]
    assert loss_points(JobProgress(step=9, loss=1.0, losses=told)) == [(4, 3.0), (8, 2.0), (9, 1.0)]
    assert loss_points(JobProgress(step=8, loss=2.0, losses=told)) == [(4, 3.0), (8, 2.0)]
    assert loss_points(JobProgress(step=1, loss=math.nan)) == []
    assert loss_points(JobProgress()) == []


@pytest.mark.parametrize(
    ("schedule", "ancestors"), [(Schedule.CONTINUE, ["a/it-2", "a/it-1", "tiny"]), (Schedule.UNION, ["tiny"])]
)
def test_a_version_knows_what_it_was_trained_from(schedule: Schedule, ancestors: list[str]) -> None:
    run = Run("runs/a", RunSpec(policy="tiny", schedule=schedule))
    found = version(Policy("a/it-3"), {"a": run})
    assert (found.run, found.iteration, list(found.ancestors)) == ("a", 3, ancestors)
    assert version(Policy("a/it-3"), {}).ancestors == ()
    assert version(Policy("adapter", base_model="tiny"), {}).ancestors == ("tiny",)


def test_runs_are_read_from_the_names_of_versions() -> None:
    assert runs_of([Policy("a/it-1"), Policy("a/it-2"), Policy("tiny"), Policy("b/it-x")]) == ["a"]


def test_a_promotion_says_where_the_alias_points_and_what_a_rollback_does() -> None:
    first, _, last = promotion("live", "b", [Policy("a", aliases=("live",)), Policy("b")])
    assert first == "live points at a now."
    assert "back at a" in last
    assert "it is made" in promotion("live", "b", [Policy("b")])[0]
