"""Calibration against scikit-learn, scipy and values computed by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from ilf_common.errors import InvalidArgumentError
from ilf_common.statistics.calibration import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    both_orders,
    brier_score,
    expected_calibration_error,
    fit_temperature,
    logits_of,
    negative_log_likelihood,
    reliability_bins,
    sigmoid,
)

cases = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=60)


@given(cases)
def test_bins_hold_every_prediction_once(rows: list[tuple[float, bool]]) -> None:
    predictions, labels = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    predictions = np.round(predictions, 6) * 0.99 + 0.0033  # away from the bins' edges
    found = reliability_bins(predictions, labels, bins=5)
    assert sum(part.count for part in found) == len(rows)
    for part in found:
        inside = (predictions >= part.low) & (predictions < part.high)
        assert part.count == inside.sum()
        assert part.mean_probability == pytest.approx(predictions[inside].mean())
        assert part.positive_share == pytest.approx(labels[inside].mean())


def test_bins_and_error_are_scikit_learns_on_a_sample() -> None:
    random = np.random.default_rng(0)
    predictions = random.uniform(size=500)
    labels = random.uniform(size=500) < predictions**2
    found = reliability_bins(predictions, labels)
    shares, means = calibration_curve(labels, predictions, n_bins=10)
    assert [part.positive_share for part in found] == pytest.approx(list(shares))
    assert [part.mean_probability for part in found] == pytest.approx(list(means))
    counts = np.histogram(predictions, bins=10, range=(0, 1))[0]
    assert expected_calibration_error(found) == pytest.approx(float(counts @ np.abs(shares - means)) / 500)


def test_the_error_of_a_case_worked_by_hand() -> None:
    found = reliability_bins([0.9, 0.9, 0.1, 1.0], [1, 0, 0, 1], bins=2)
    assert [(part.count, part.positive_share) for part in found] == [(1, 0.0), (3, pytest.approx(2 / 3))]
    assert expected_calibration_error(found) == pytest.approx((0.1 + 3 * (2.8 / 3 - 2 / 3)) / 4)


@given(cases)
def test_the_brier_score_is_scikit_learns(rows: list[tuple[float, bool]]) -> None:
    predictions, labels = zip(*rows, strict=True)
    assert brier_score(predictions, labels) == pytest.approx(brier_score_loss(labels, predictions, pos_label=True))


def test_likelihood_is_scikit_learns() -> None:
    logits, labels = np.array([2.0, -1.0, 0.3]), np.array([1, 0, 0])
    assert negative_log_likelihood(logits, labels, 1.7) == pytest.approx(log_loss(labels, sigmoid(logits / 1.7)))


@given(st.integers(0, 2**32 - 1), st.floats(0.2, 8))
def test_the_temperature_is_the_minimum_of_the_likelihood(seed: int, sharpness: float) -> None:
    random = np.random.default_rng(seed)
    truth = random.normal(0, 2, 300)
    labels = random.uniform(size=300) < sigmoid(truth)
    found = fit_temperature(sharpness * truth, labels)
    best = minimize_scalar(
        lambda log: negative_log_likelihood(sharpness * truth, labels, float(np.exp(log))),
        bounds=(-4.5, 4.5),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert found == pytest.approx(float(np.exp(best.x)), rel=1e-3)


def test_the_temperature_undoes_a_known_sharpening() -> None:
    random = np.random.default_rng(3)
    truth = random.normal(0, 1.5, 20_000)
    labels = random.uniform(size=truth.size) < sigmoid(truth)
    assert fit_temperature(3.0 * truth, labels) == pytest.approx(3.0, rel=0.05)


def test_scores_that_separate_or_contradict_the_labels_end_at_a_bound() -> None:
    assert fit_temperature([1.0, -1.0], [1, 0]) == LOWEST_TEMPERATURE
    assert fit_temperature([1.0, -1.0], [0, 1]) == HIGHEST_TEMPERATURE
    assert fit_temperature([0.0, 0.0], [0, 1]) == HIGHEST_TEMPERATURE


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=30))
def test_pairs_in_both_orders_are_balanced(margins: list[float]) -> None:
    logits, labels = both_orders(margins)
    assert labels.mean() == 0.5
    assert float(sigmoid(logits).mean()) == pytest.approx(0.5)


def test_log_odds_undo_the_sigmoid_and_stay_finite() -> None:
    assert sigmoid(logits_of([0.2, 0.5, 0.9])) == pytest.approx([0.2, 0.5, 0.9])
    assert np.isfinite(logits_of([0.0, 1.0])).all()
    assert sigmoid([-1e9, 1e9]) == pytest.approx([0.0, 1.0])


def test_numbers_outside_0_to_1_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"1\.2"):
        brier_score([0.5, 1.2], [1, 0])
