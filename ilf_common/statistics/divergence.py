"""Kullback-Leibler divergence of a policy and its base, from log-probabilities of samples of one of them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from ilf_common.statistics.estimates import paired_difference
from ilf_common.statistics.values import Estimate
from ilf_common.statistics.vectors import Values


def forward_kl(base: Values, policy: Values, clusters: Sequence[Hashable] | None = None) -> Estimate:
    """KL(base ‖ policy) = E over the base's samples of log base - log policy, in nats a sample.

    Args:
        base: Summed log-probability of each text under the base, which wrote it at temperature 1 and top-p 1.
        policy: The same texts' under the policy.
        clusters: The prompt of each text.

    Raises:
        InvalidArgumentError: A number is not finite, or the lists differ in length.
    """
    return paired_difference(base, policy, clusters)


def reverse_kl(policy: Values, base: Values, clusters: Sequence[Hashable] | None = None) -> Estimate:
    """KL(policy ‖ base) = E over the policy's samples of log policy - log base; arguments as in `forward_kl`."""
    return paired_difference(policy, base, clusters)
