"""How much of a score is mere length."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from ilf_common.errors import InvalidArgumentError
from ilf_common.statistics.calibration import sigmoid
from ilf_common.statistics.estimates import clustered_error, mean, share
from ilf_common.statistics.values import Estimate
from ilf_common.statistics.vectors import Values, Vector, probabilities, vector

_RIDGE = 0.01
_STEPS = 100


def slope_on_length(rewards: Values, lengths: Values, clusters: Sequence[Hashable] | None = None) -> Estimate | None:
    """Reward gained by one more unit of length: the least-squares slope, its error clustered.

    Args:
        rewards: One number a text.
        lengths: Tokens or characters of the same texts.
        clusters: The cluster of each text, such as its pair or prompt.

    Returns:
        None where all lengths are equal.

    Raises:
        InvalidArgumentError: Numbers that are not finite, or lists of different lengths.
    """
    scores = vector("rewards", rewards)
    sizes = vector("lengths", lengths, length=scores.size)
    centred = sizes - sizes.mean()
    spread = float(centred @ centred)
    if spread <= 1e-12 * max(1.0, float(sizes @ sizes)):
        return None
    slope = float(centred @ scores) / spread
    residuals = scores - scores.mean() - slope * centred
    return Estimate(slope, *clustered_error(centred * residuals / spread, clusters))


def length_matched_accuracy(
    margins: Values,
    chosen_lengths: Values,
    rejected_lengths: Values,
    *,
    tolerance: float = 0.1,
    clusters: Sequence[Hashable] | None = None,
) -> Estimate | None:
    """Accuracy on the pairs whose lengths differ by at most `tolerance` of the longer one: length cannot explain it.

    Args:
        margins: Score of the preferred text minus that of the other; 0 counts half.
        chosen_lengths: Length of each preferred text.
        rejected_lengths: Length of each other text.
        tolerance: Largest difference as a share of the longer text.
        clusters: The cluster of each pair, such as its prompt.

    Returns:
        None where no pair matches.
    """
    gaps = vector("margins", margins)
    chosen = vector("chosen_lengths", chosen_lengths, length=gaps.size)
    rejected = vector("rejected_lengths", rejected_lengths, length=gaps.size)
    matched = np.flatnonzero(np.abs(chosen - rejected) <= tolerance * np.maximum(chosen, rejected))
    if not matched.size:
        return None
    kept = None if clusters is None else [clusters[index] for index in matched]
    return mean((np.sign(gaps[matched]) + 1) / 2, kept)


def length_controlled_win_rate(
    wins: Values, lengths: Values, rival_lengths: Values, clusters: Sequence[Hashable] | None = None
) -> Estimate:
    """The win rate that would be seen if both sides were equally long.

    Fits P(win) = sigmoid(a + b tanh(d / s)), where d is the difference of the lengths and s its root mean square, and
    answers sigmoid(a), with the error of the clustered sandwich through the delta method (after Dubois et al. 2024,
    "Length-Controlled AlpacaEval", section 4, without its term for the instruction). Swapping the sides answers one
    minus it. A ridge of 0.01 on b keeps it finite where length alone decides.

    Args:
        wins: 1, 0, or 0.5 for a tie; probabilities are as good.
        lengths: Lengths of one side's texts.
        rival_lengths: Lengths of the other side's texts.
        clusters: The cluster of each pair, such as its prompt.

    Raises:
        InvalidArgumentError: Numbers that are not finite, wins outside 0 to 1, or lists of different lengths.
    """
    won = probabilities("wins", wins)
    own = vector("lengths", lengths, length=won.size)
    difference = own - vector("rival_lengths", rival_lengths, length=won.size)
    scale = math.sqrt(float(np.mean(difference**2)))
    plain = share(won, clusters)
    if scale == 0 or plain.value in (0.0, 1.0):  # nothing to control for, or nothing left to explain
        return plain
    design = np.column_stack([np.ones(won.size), np.tanh(difference / scale)])
    coefficients, bread = _fit_logistic(design, won)
    rate = float(sigmoid([coefficients[0]])[0])
    scores = design * (won - sigmoid(design @ coefficients))[:, None]
    error, count = clustered_error(rate * (1 - rate) * (scores @ bread[0]), clusters)
    return Estimate(rate, error, count)


def _fit_logistic(design: Vector, won: Vector) -> tuple[Vector, Vector]:
    """Coefficients of the logistic regression by Newton's method, and the inverse of its curvature."""
    ridge = np.diag([0.0, _RIDGE])
    coefficients = np.zeros(2)
    for _ in range(_STEPS):
        shares = sigmoid(design @ coefficients)
        curvature = (design * (shares * (1 - shares))[:, None]).T @ design + ridge
        bread = np.linalg.inv(curvature + 1e-12 * np.eye(2))
        step = bread @ (design.T @ (won - shares) - ridge @ coefficients)
        coefficients = coefficients + step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-10:
            return coefficients, bread
    raise InvalidArgumentError.of("wins", "the length-controlled fit does not settle; there are too few pairs")
