"""How often a judge by itself would choose what the ensemble chooses."""

from __future__ import annotations

from services.ranking.models import CandidateScore, JudgeScore, Ranking
from services.ranking.service import agreement


def ranked(chosen: int, *by_candidate: tuple[float, ...]) -> Ranking:
    scores = tuple(
        CandidateScore(sum(scores), tuple(JudgeScore(f"judge {n}", score, 0.0) for n, score in enumerate(scores)))
        for scores in by_candidate
    )
    return Ranking(scores, chosen, "instruct_rm")


def test_each_judge_is_asked_for_its_own_choice() -> None:
    assert agreement(ranked(1, (0.5, 0.4), (0.4, 0.9))) == [False, True]


def test_equals_are_decided_as_the_ensemble_decides_them() -> None:
    assert agreement(ranked(0, (0.5, 0.5), (0.5, 0.5))) == [True, True]


def test_one_candidate_is_no_choice() -> None:
    assert agreement(ranked(0, (0.5, 0.5))) == []
