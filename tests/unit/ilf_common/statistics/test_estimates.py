"""Means and their errors against scipy, the bootstrap and hand-computed values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ilf_common.errors import InvalidArgumentError
from ilf_common.statistics.estimates import mean, paired_difference, share, wilson_interval
from ilf_common.statistics.values import Estimate, smallest_detectable_effect

numbers = st.floats(-1e3, 1e3)


@given(st.lists(numbers, min_size=2, max_size=40))
def test_independent_values_have_the_usual_standard_error(values: list[float]) -> None:
    found = mean(values)
    assert found.value == pytest.approx(float(np.mean(values)), abs=1e-9)
    assert found.standard_error == pytest.approx(float(stats.sem(values)), abs=1e-9)
    assert found.n == len(values)


@given(st.lists(numbers, min_size=2, max_size=20), st.integers(2, 5))
def test_repeating_every_value_within_its_cluster_tells_nothing_new(values: list[float], times: int) -> None:
    once = mean(values)
    repeated = mean(np.repeat(values, times), np.repeat(np.arange(len(values)), times).tolist())
    assert repeated.value == pytest.approx(once.value, abs=1e-9)
    assert repeated.standard_error == pytest.approx(once.standard_error, abs=1e-9)
    assert repeated.n == once.n


def test_the_clustered_error_is_that_of_the_cluster_bootstrap() -> None:
    random = np.random.default_rng(0)
    groups = [random.normal(random.normal(), 0.5, size=random.integers(1, 6)) for _ in range(150)]
    clusters = [index for index, group in enumerate(groups) for _ in group]
    found = mean(np.concatenate(groups), clusters)
    means = [
        np.concatenate([groups[index] for index in random.integers(0, len(groups), len(groups))]).mean()
        for _ in range(2000)
    ]
    assert found.standard_error == pytest.approx(float(np.std(means)), rel=0.08)
    assert found.standard_error > 1.3 * mean(np.concatenate(groups)).standard_error


def test_one_cluster_says_nothing_of_its_error() -> None:
    assert mean([1.0, 2.0], ["a", "a"]) == Estimate(1.5, math.inf, 1)
    assert mean([1.0]).standard_error == math.inf


def test_a_share_of_all_alike_is_not_certain() -> None:
    three = share([1, 1, 1])
    assert 1 - three.value == 0
    assert 1 - 1.96 * three.standard_error == pytest.approx(wilson_interval(3, 3).low, abs=1e-4)
    assert share([1] * 1000).standard_error < 0.002
    assert share([0, 1, 1]) == mean([0, 1, 1])
    assert share([1, 1], ["a", "a"]).standard_error == math.inf


def test_a_paired_difference_sees_what_independent_ones_cannot() -> None:
    random = np.random.default_rng(1)
    difficulty = random.normal(0, 5, 200)
    first, second = difficulty + 0.3 + random.normal(0, 0.1, 200), difficulty + random.normal(0, 0.1, 200)
    paired, apart = paired_difference(first, second), mean(first) - mean(second)
    assert paired.value == pytest.approx(apart.value)
    assert paired.standard_error < apart.standard_error / 20
    assert apart.standard_error == pytest.approx(math.hypot(stats.sem(first), stats.sem(second)))


@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_scipys(n: int, share: float, level: float) -> None:
    successes = round(share * n)
    found = wilson_interval(successes, n, level)
    wanted = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


def test_the_smallest_detectable_effect_is_found_four_times_of_five() -> None:
    error = 0.1
    effect = smallest_detectable_effect(error)
    assert Estimate(0, error, 5).smallest_detectable_effect == effect
    power = stats.norm.sf(1.959964 - effect / error) + stats.norm.cdf(-1.959964 - effect / error)
    assert power == pytest.approx(0.8, abs=1e-4)


@pytest.mark.parametrize(
    ("values", "clusters", "field"),
    [
        ([], None, "values"),
        ([1.0, math.nan], None, "values[1]"),
        ([math.inf], None, "values[0]"),
        ([1.0, 2.0], ["a"], "clusters"),
    ],
)
def test_what_is_no_list_of_numbers_is_refused(values: list[float], clusters: list[str] | None, field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        mean(values, clusters)
    assert caught.value.violations[0].field == field


@pytest.mark.parametrize(("successes", "n", "level"), [(1, 0, 0.95), (3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)])
def test_an_impossible_share_is_refused(successes: float, n: int, level: float) -> None:
    with pytest.raises(InvalidArgumentError):
        wilson_interval(successes, n, level)
