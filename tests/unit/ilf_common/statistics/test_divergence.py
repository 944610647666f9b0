"""Divergences from samples against those of known distributions."""

import numpy as np
import pytest

from ilf_common.statistics.divergence import forward_kl, reverse_kl


def test_each_is_that_of_the_side_that_was_sampled() -> None:
    base, policy = np.array([0.5, 0.3, 0.2]), np.array([0.05, 0.05, 0.9])
    random = np.random.default_rng(1)
    of_base, of_policy = random.choice(3, 40_000, p=base), random.choice(3, 40_000, p=policy)
    forward = forward_kl(np.log(base)[of_base], np.log(policy)[of_base])
    reverse = reverse_kl(np.log(policy)[of_policy], np.log(base)[of_policy])
    exact_forward, exact_reverse = float(base @ np.log(base / policy)), float(policy @ np.log(policy / base))
    assert forward.value == pytest.approx(exact_forward, abs=4 * forward.standard_error)
    assert reverse.value == pytest.approx(exact_reverse, abs=4 * reverse.standard_error)
    assert abs(exact_forward - exact_reverse) > 20 * forward.standard_error


def test_samples_of_one_prompt_are_one_cluster() -> None:
    prompts = ["a", "a", "b", "b"]
    assert forward_kl([1.0, 1.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0], prompts).n == 2
