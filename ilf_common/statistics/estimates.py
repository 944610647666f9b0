"""Means with standard errors, differences of them, and what they could have told."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from ilf_common.errors import InvalidArgumentError
from ilf_common.statistics.values import Estimate
from ilf_common.statistics.vectors import Values, Vector, cluster_numbers, probabilities, vector

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, both included."""

    low: float
    high: float


def mean(values: Values, clusters: Sequence[Hashable] | None = None) -> Estimate:
    """The mean, with a standard error that holds where values of one cluster are alike.

    The error is the cluster-robust one (Liang and Zeger 1986) with the correction G/(G-1) for G clusters; where each
    value is its own cluster it is the usual sample deviation over the root of n.

    Args:
        values: Numbers.
        clusters: The cluster of each value, such as its prompt. None: values are independent.

    Raises:
        InvalidArgumentError: No values, one is not finite, or `clusters` has another length.
    """
    numbers = vector("values", values)
    value = float(numbers.mean())
    return Estimate(value, *clustered_error((numbers - value) / numbers.size, clusters))


def share(values: Values, clusters: Sequence[Hashable] | None = None) -> Estimate:
    """As `mean`, for values from 0 to 1 such as wins.

    Where all clusters are alike the usual error is 0, which would claim certainty after three wins of three; then it is
    the farther reach of Wilson's 95 % interval, as a standard error.
    """
    found = mean(probabilities("values", values), clusters)
    if found.standard_error > 0:
        return found
    interval = wilson_interval(found.value * found.n, found.n)
    reach = max(found.value - interval.low, interval.high - found.value)
    return Estimate(found.value, reach / _NORMAL.inv_cdf(0.975), found.n)


def clustered_error(influences: Vector, clusters: Sequence[Hashable] | None) -> tuple[float, int]:
    """Standard error of an estimate from what each row moved it by, and the number of clusters.

    Args:
        influences: (rows,) first-order effect of each row on the estimate; they sum to 0.
        clusters: The cluster of each row; None: rows are independent.
    """
    numbers = cluster_numbers(clusters, influences.size)
    sums = np.bincount(numbers, weights=influences)
    count = sums.size
    if count < 2:
        return math.inf, count
    return math.sqrt(count / (count - 1) * float(sums @ sums)), count


def paired_difference(first: Values, second: Values, clusters: Sequence[Hashable] | None = None) -> Estimate:
    """Mean of `first[i] - second[i]`, measured on the same items in the same order; errors as in `mean`."""
    numbers = vector("first", first)
    return mean(numbers - vector("second", second, length=numbers.size), clusters)


def wilson_interval(successes: float, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share (1927): it stays within 0 and 1 and is right near them.

    Args:
        successes: 0 to n; ties may count half.
        n: Independent trials, at least 1.
        level: Coverage, between 0 and 1.

    Raises:
        InvalidArgumentError: A number is out of its range.
    """
    if n < 1 or not 0 <= successes <= n:
        raise InvalidArgumentError.of("successes", f"is {successes} of {n}; 0 to n of at least 1 are wanted")
    if not 0 < level < 1:
        raise InvalidArgumentError.of("level", f"is {level}, a number between 0 and 1 is wanted")
    z = _NORMAL.inv_cdf((1 + level) / 2)
    share = successes / n
    scale = 1 + z * z / n
    middle = (share + z * z / (2 * n)) / scale
    reach = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(max(0.0, middle - reach), min(1.0, middle + reach))
