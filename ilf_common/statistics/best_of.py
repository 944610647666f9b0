"""Best-of-k for every k up to N from one pool of N samples a prompt, and what it may cost in divergence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ilf_common.errors import InvalidArgumentError
from ilf_common.statistics.values import Estimate
from ilf_common.statistics.vectors import Values, vector


@dataclass(frozen=True)
class BestOfPoint:
    """One point of the curve.

    Attributes:
        k: Samples to choose from.
        estimate: Expected value of the sample with the highest reward among k, over prompts.
        kl_bound: Upper bound of the divergence of best-of-k from its sampler, in nats.
    """

    k: int
    estimate: Estimate
    kl_bound: float


def kl_bound(k: int) -> float:
    """KL of best-of-k from its sampler is at most log k - (k - 1) / k nats (Beirami et al. 2024, theorem 1).

    Raises:
        InvalidArgumentError: k is below 1.
    """
    if k < 1:
        raise InvalidArgumentError.of("k", f"is {k}, at least 1 is wanted")
    return math.log(k) - (k - 1) / k


def best_of_expectations(rewards: Values, values: Values | None = None) -> npt.NDArray[np.float64]:
    """Expected value of the best of k, for each k from 1 to N, over all subsets of k of N samples.

    The sample of rank i (from 1, by reward) is the best of C(i-1, k-1) of the C(N, k) subsets, so the mean over all
    subsets is a weighted sum, unbiased for the best of k fresh samples (Nakano et al. 2021, "WebGPT", appendix I).
    Samples of equal reward are as likely to be chosen as one another.

    Args:
        rewards: What the choice goes by, of N samples of one prompt.
        values: What is measured on the chosen sample. Default: its reward.

    Returns:
        (N,) the expectation for k = 1, …, N.

    Raises:
        InvalidArgumentError: A number is not finite, or the lists differ in length.
    """
    scores = vector("rewards", rewards)
    measured = scores if values is None else vector("values", values, length=scores.size)
    _, ties = np.unique(scores, return_inverse=True)
    tied_means = np.bincount(ties, weights=measured) / np.bincount(ties)
    by_rank = tied_means[np.sort(ties)]
    return np.asarray(_weights(scores.size) @ by_rank)


class BestOfCurve:
    """The curve over many prompts, taken one by one; memory does not grow with their number.

    Args:
        n: Samples of every prompt.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._count = 0
        self._mean = np.zeros(n)
        self._squares = np.zeros(n)

    def add(self, rewards: Values, values: Values | None = None) -> None:
        """Takes the pool of one prompt; arguments as in `best_of_expectations`, n of each."""
        found = best_of_expectations(vector("rewards", rewards, length=self._n), values)
        self._count += 1
        step = found - self._mean
        self._mean += step / self._count
        self._squares += step * (found - self._mean)

    def points(self) -> list[BestOfPoint]:
        """A point for every k from 1 to n; empty before the first prompt."""
        if not self._count:
            return []
        return [
            BestOfPoint(k, Estimate(float(self._mean[k - 1]), self._error(k), self._count), kl_bound(k))
            for k in range(1, self._n + 1)
        ]

    def _error(self, k: int) -> float:
        if self._count < 2:
            return math.inf
        return math.sqrt(float(self._squares[k - 1]) / (self._count - 1) / self._count)


def _weights(n: int) -> npt.NDArray[np.float64]:
    """(k, rank) the share of subsets of k in which a rank is the best: C(rank-1, k-1) / C(n, k), by recurrence.

    From the highest rank down, C(i-2, k-1) / C(i-1, k-1) = (i-k) / (i-1): a product of shares, without large numbers.
    """
    k = np.arange(1, n + 1, dtype=np.float64)
    weights = np.zeros((n, n))
    weights[:, n - 1] = k / n
    for rank in range(n - 1, 0, -1):
        weights[:, rank - 1] = weights[:, rank] * np.maximum(rank + 1 - k, 0) / rank
    return weights
