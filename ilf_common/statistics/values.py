"""What is measured, as plain values; whoever only reads results needs no numerical library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

# Two-sided test at 5 % that finds the effect 4 times out of 5 (Cohen, "Statistical Power Analysis", 1988).
_DETECTABLE = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)


@dataclass(frozen=True)
class Estimate:
    """A measured value.

    Attributes:
        value: In the unit of what was measured.
        standard_error: In the same unit; infinite where a single cluster says nothing about it.
        n: Independent observations behind it: clusters (prompts), not rows.
    """

    value: float
    standard_error: float
    n: int

    @property
    def smallest_detectable_effect(self) -> float:
        """The smallest true difference from a fixed value that as many observations would find (see the function)."""
        return smallest_detectable_effect(self.standard_error)

    def __sub__(self, other: Estimate) -> Estimate:
        """The difference of two independent estimates; for the same items `paired_difference` knows more."""
        error = math.hypot(self.standard_error, other.standard_error)
        return Estimate(self.value - other.value, error, min(self.n, other.n))


@dataclass(frozen=True)
class ReliabilityBin:
    """The predictions of one range of probabilities.

    Attributes:
        low: Where the range begins; it ends before `high`, the last one with it.
        high: Where it ends.
        count: Predictions in it, at least 1.
        mean_probability: What they say.
        positive_share: What came true.
    """

    low: float
    high: float
    count: int
    mean_probability: float
    positive_share: float


def smallest_detectable_effect(standard_error: float) -> float:
    """The smallest true effect that a two-sided test at 5 % finds with a power of 80 %: 2.80 standard errors."""
    return _DETECTABLE * standard_error
