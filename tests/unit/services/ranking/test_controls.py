from __future__ import annotations

import statistics

from hypothesis import given
from hypothesis import strategies as st

from services.ranking.controls import length_scores, random_scores
from services.ranking.models import RankItem
from services.ranking.service import choose


def item(*candidates: str, item_id: str = "i") -> RankItem:
    return RankItem(item_id, "context", "initial", "feedback", candidates)


def test_length_is_counted_in_characters() -> None:
    assert length_scores(item("", "abc", "äöü€")) == (0.0, 3.0, 4.0)


def test_random_scores_follow_from_seed_and_item() -> None:
    assert random_scores(item("a", "b"), 1) == random_scores(item("a", "b"), 1)
    assert random_scores(item("a", "b"), 1) != random_scores(item("a", "b"), 2)
    assert random_scores(item("a", "b"), 1) != random_scores(item("a", "b", item_id="other"), 1)
    assert random_scores(item("ab", ""), 1) != random_scores(item("a", "b"), 1)


def test_random_choice_prefers_no_position() -> None:
    chosen = [choose(random_scores(item("a", "b", "c", "d", item_id=str(i)), 0)) for i in range(2000)]
    counts = [chosen.count(index) for index in range(4)]
    assert all(400 < count < 600 for count in counts)
    everything = [score for i in range(500) for score in random_scores(item("a", "b", item_id=str(i)), 7)]
    assert abs(statistics.fmean(everything) - 0.5) < 0.05


@given(st.lists(st.floats(-5, 5), min_size=1))
def test_choice_is_the_first_of_the_highest(scores: list[float]) -> None:
    assert choose(scores) == scores.index(max(scores))


@given(st.lists(st.text(max_size=5), min_size=1, max_size=20), st.integers(0, 2**64 - 1))
def test_random_scores_lie_in_the_unit_interval(candidates: list[str], seed: int) -> None:
    assert all(0 <= score < 1 for score in random_scores(item(*candidates), seed))
