"""Whether probabilities mean what they say: reliability, its scores, and the temperature that mends it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ilf_common.statistics.values import ReliabilityBin
from ilf_common.statistics.vectors import Values, Vector, probabilities, vector

# Beyond these the scores either separate the labels or say nothing of them; neither is a temperature.
LOWEST_TEMPERATURE = 0.01
HIGHEST_TEMPERATURE = 100.0


def reliability_bins(predictions: Values, labels: Values, bins: int = 10) -> list[ReliabilityBin]:
    """Predictions in `bins` ranges of equal width; empty ranges are left out.

    Args:
        predictions: Probabilities of the positive label.
        labels: 1 for positive, 0 for negative.
        bins: Number of ranges.

    Raises:
        InvalidArgumentError: Nothing given, numbers outside 0 to 1, or lengths that differ.
    """
    given = probabilities("predictions", predictions)
    truth = probabilities("labels", labels, length=given.size)
    index = np.minimum((given * bins).astype(np.intp), bins - 1)
    counts = np.bincount(index, minlength=bins)
    said = np.bincount(index, weights=given, minlength=bins)
    came = np.bincount(index, weights=truth, minlength=bins)
    return [
        ReliabilityBin(k / bins, (k + 1) / bins, int(counts[k]), float(said[k] / counts[k]), float(came[k] / counts[k]))
        for k in np.flatnonzero(counts)
    ]


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """ECE: the mean distance between what is said and what came true, weighted by count (Guo et al. 2017, eq. 3)."""
    total = sum(part.count for part in bins)
    return sum(part.count * abs(part.mean_probability - part.positive_share) for part in bins) / total


def brier_score(predictions: Values, labels: Values) -> float:
    """Mean squared distance between probability and label (Brier 1950): 0 is perfect, 0.25 is a constant 0.5."""
    given = probabilities("predictions", predictions)
    return float(np.mean((given - probabilities("labels", labels, length=given.size)) ** 2))


def both_orders(margins: Values) -> tuple[Vector, Vector]:
    """Pairs as a binary problem: each margin (chosen minus rejected) in both orders, and the labels that belong to it.

    A list of pairs knows only the preferred side first, so every label would be 1; a pair seen from both sides has one
    positive and one negative label, and calibration becomes a question that can be asked.

    Returns:
        (2 * pairs,) log-odds that the first is preferred, and labels, 1 or 0.
    """
    logits = vector("margins", margins)
    return np.concatenate([logits, -logits]), np.concatenate([np.ones(logits.size), np.zeros(logits.size)])


def sigmoid(logits: Values) -> Vector:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * vector("logits", logits))))


def logits_of(predictions: Values, floor: float = 1e-7) -> Vector:
    """Log-odds of probabilities, which are kept `floor` away from 0 and 1."""
    given = np.clip(probabilities("predictions", predictions), floor, 1 - floor)
    return np.asarray(np.log(given) - np.log1p(-given))


def negative_log_likelihood(logits: Values, labels: Values, temperature: float = 1.0) -> float:
    """Mean of -log p(label) in nats, with p(positive) = sigmoid(logit / temperature)."""
    scaled = vector("logits", logits) / temperature
    truth = probabilities("labels", labels, length=scaled.size)
    return float(np.mean(np.logaddexp(0, scaled) - truth * scaled))


def fit_temperature(logits: Values, labels: Values) -> float:
    """The temperature with the least negative log-likelihood (Guo et al. 2017, section 4.2); fit it on held-out data.

    The likelihood is convex in 1/temperature, so halving the interval in which its slope changes sign finds the one
    minimum. It stays within 0.01 and 100: at the lower end the scores separate the labels, at the upper end they say
    nothing of them.

    Args:
        logits: Log-odds of the positive label, or margins of pairs through `both_orders`.
        labels: 1 for positive, 0 for negative.
    """
    given = vector("logits", logits)
    truth = probabilities("labels", labels, length=given.size)

    def slope(inverse: float) -> float:
        return float(np.mean((sigmoid(inverse * given) - truth) * given))

    low, high = 1 / HIGHEST_TEMPERATURE, 1 / LOWEST_TEMPERATURE
    if slope(low) >= 0:
        return HIGHEST_TEMPERATURE
    if slope(high) <= 0:
        return LOWEST_TEMPERATURE
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if slope(middle) < 0:
            low = middle
        else:
            high = middle
    return 2 / (low + high)
