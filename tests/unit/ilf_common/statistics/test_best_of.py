"""Best-of-k against every subset, and its bound against the exact divergence."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilf_common.errors import InvalidArgumentError
from ilf_common.statistics.best_of import BestOfCurve, best_of_expectations, kl_bound
from ilf_common.statistics.estimates import mean

pools = st.lists(st.tuples(st.integers(-3, 3), st.floats(-5, 5)), min_size=1, max_size=7)


@given(pools)
def test_the_curve_is_the_mean_over_all_subsets(pool: list[tuple[int, float]]) -> None:
    rewards, values = [float(reward) for reward, _ in pool], [value for _, value in pool]
    found = best_of_expectations(rewards, values)
    for k in range(1, len(pool) + 1):
        chosen = []
        for subset in itertools.combinations(range(len(pool)), k):
            best = max(rewards[index] for index in subset)
            chosen.append(np.mean([values[index] for index in subset if rewards[index] == best]))
        assert found[k - 1] == pytest.approx(float(np.mean(chosen)), abs=1e-9)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=50))
def test_more_samples_never_lower_the_reward(rewards: list[float]) -> None:
    found = best_of_expectations(rewards)
    assert found[0] == pytest.approx(float(np.mean(rewards)), abs=1e-9)
    assert found[-1] == pytest.approx(max(rewards), abs=1e-9)
    assert (np.diff(found) >= -1e-9).all()


def test_a_large_pool_stays_exact() -> None:
    found = best_of_expectations(np.arange(1024))
    k = np.arange(1, 1025)
    assert found == pytest.approx(k * 1025 / (k + 1) - 1)  # expected maximum of k of 0..1023 without replacement


def test_the_curve_over_prompts_is_the_mean_of_each() -> None:
    random = np.random.default_rng(0)
    pools = random.normal(size=(30, 5))
    curve = BestOfCurve(5)
    assert curve.points() == []
    for pool in pools:
        curve.add(pool)
    single = np.array([best_of_expectations(pool) for pool in pools])
    for point in curve.points():
        wanted = mean(single[:, point.k - 1])
        assert point.estimate.value == pytest.approx(wanted.value)
        assert point.estimate.standard_error == pytest.approx(wanted.standard_error)
        assert point.estimate.n == 30


def test_one_sample_is_a_curve_of_one_point() -> None:
    curve = BestOfCurve(1)
    curve.add([2.5])
    (point,) = curve.points()
    assert (point.k, point.estimate.value, point.estimate.standard_error, point.kl_bound) == (1, 2.5, math.inf, 0.0)


def test_a_pool_of_another_size_and_a_nan_are_refused() -> None:
    curve = BestOfCurve(2)
    with pytest.raises(InvalidArgumentError, match="has 3 numbers, 2 are wanted"):
        curve.add([1.0, 2.0, 3.0])
    with pytest.raises(InvalidArgumentError, match="rewards\\[1\\]: is nan"):
        curve.add([1.0, math.nan])


@pytest.mark.parametrize("k", [1, 2, 8, 64])
def test_the_bound_holds_and_is_tight_for_many_outcomes(k: int) -> None:
    outcomes = 20_000  # uniform over so many, each with its own reward
    ranks = np.arange(1, outcomes + 1) / outcomes
    best = ranks**k - (ranks - 1 / outcomes) ** k
    kept = best[best > 0]
    exact = float(kept @ np.log(kept * outcomes))
    assert exact <= kl_bound(k) + 1e-9
    assert exact == pytest.approx(kl_bound(k), abs=0.01)


def test_the_bound_needs_a_sample() -> None:
    with pytest.raises(InvalidArgumentError):
        kl_bound(0)
