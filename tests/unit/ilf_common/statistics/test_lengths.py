"""Length bias: known effects are recovered, and length alone is told apart from quality."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ilf_common.statistics.calibration import sigmoid
from ilf_common.statistics.estimates import mean
from ilf_common.statistics.lengths import length_controlled_win_rate, length_matched_accuracy, slope_on_length


@given(st.integers(0, 2**32 - 1))
def test_the_slope_is_scipys(seed: int) -> None:
    random = np.random.default_rng(seed)
    lengths = random.integers(5, 60, 40)
    rewards = 0.02 * lengths + random.normal(0, 1, 40)
    found = slope_on_length(rewards, lengths)
    assert found is not None
    assert found.value == pytest.approx(stats.linregress(lengths, rewards).slope)


def test_the_slopes_error_is_that_of_the_cluster_bootstrap() -> None:
    random = np.random.default_rng(2)
    prompts = np.repeat(np.arange(120), 3)
    lengths = random.integers(5, 60, prompts.size) + 10 * prompts % 7
    rewards = 0.05 * lengths + random.normal(0, 2, 120)[prompts] + random.normal(0, 1, prompts.size)
    found = slope_on_length(rewards, lengths, prompts.tolist())
    assert found is not None
    slopes = []
    for _ in range(1000):
        rows = np.concatenate([np.arange(3 * p, 3 * p + 3) for p in random.integers(0, 120, 120)])
        slopes.append(stats.linregress(lengths[rows], rewards[rows]).slope)
    assert found.standard_error == pytest.approx(float(np.std(slopes)), rel=0.1)


def test_equal_lengths_have_no_slope() -> None:
    assert slope_on_length([1.0, 2.0], [7, 7]) is None


def test_only_pairs_of_like_length_count() -> None:
    found = length_matched_accuracy([1.0, -1.0, 0.0, 5.0], [10, 20, 100, 10], [10, 19, 95, 50])
    assert found is not None
    assert (found.value, found.n) == (0.5, 3)
    assert length_matched_accuracy([1.0], [1], [9]) is None


@pytest.mark.parametrize("quality", [-0.8, 0.0, 0.6])
@pytest.mark.parametrize("pull", [0.0, 1.5])
def test_a_known_win_rate_is_recovered_from_under_the_pull_of_length(quality: float, pull: float) -> None:
    random = np.random.default_rng(4)
    own, rival = random.normal(40, 10, 20_000), random.normal(30, 10, 20_000)
    difference = own - rival
    chance = sigmoid(quality + pull * np.tanh(difference / np.sqrt(np.mean(difference**2))))
    wins = random.uniform(size=chance.size) < chance
    found = length_controlled_win_rate(wins, own, rival)
    wanted = float(sigmoid([quality])[0])
    assert found.value == pytest.approx(wanted, abs=4 * found.standard_error)
    assert found.standard_error < 0.01
    if pull:
        assert mean(wins).value > wanted + 0.05  # what would have been reported without the control


def test_its_error_is_that_of_the_cluster_bootstrap() -> None:
    random = np.random.default_rng(5)
    prompts = np.repeat(np.arange(100), 4)
    ease = random.normal(0, 1, 100)[prompts]
    own, rival = random.normal(35, 10, prompts.size), random.normal(30, 10, prompts.size)
    wins = random.uniform(size=prompts.size) < sigmoid(0.3 + ease + 0.05 * (own - rival))
    found = length_controlled_win_rate(wins, own, rival, prompts.tolist())
    values = []
    for _ in range(500):
        rows = np.concatenate([np.arange(4 * p, 4 * p + 4) for p in random.integers(0, 100, 100)])
        values.append(length_controlled_win_rate(wins[rows], own[rows], rival[rows]).value)
    assert found.standard_error == pytest.approx(float(np.std(values)), rel=0.1)


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(1, 40), st.integers(1, 40)), min_size=5))
def test_swapping_the_sides_answers_the_complement(rows: list[tuple[float, int, int]]) -> None:
    wins, own, rival = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    one, other = length_controlled_win_rate(wins, own, rival), length_controlled_win_rate(1 - wins, rival, own)
    assert 0 <= one.value <= 1
    assert one.value == pytest.approx(1 - other.value, abs=1e-6)


def test_nothing_is_controlled_where_lengths_are_equal_or_one_side_always_wins() -> None:
    assert length_controlled_win_rate([1, 0, 1], [5, 5, 5], [5, 5, 5]) == mean([1, 0, 1])
    assert length_controlled_win_rate([1, 1], [5, 9], [5, 5]).value == 1.0


def test_length_that_alone_decides_leaves_a_finite_answer() -> None:
    found = length_controlled_win_rate([1, 1, 0, 0], [9, 8, 2, 1], [5, 5, 5, 5])
    assert found.value == pytest.approx(0.5, abs=0.05)
