"""docs/theory.md on a world of six outputs, where every sum can be written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

Distribution = NDArray[np.float64]

BETA = 2.0
REWARD: Distribution = np.array([0.1, 0.9, 0.9, 0.5, 0.0, 0.7])
OUTPUTS = len(REWARD)


def refinement_distribution() -> Distribution:
    """q of equation (P): three initial outputs, two kinds of feedback on each, a refiner that hears the feedback."""
    random = np.random.default_rng(7)
    initial = random.dirichlet(np.ones(3))
    feedback = random.dirichlet(np.ones(2), size=3)
    refiner = random.dirichlet(np.full(OUTPUTS, 2.0), size=(3, 2))
    return np.asarray(np.einsum("a,af,afx->x", initial, feedback, refiner))


def normalized(values: Distribution) -> Distribution:
    return np.asarray(values / values.sum())


def divergence(left: Distribution, right: Distribution) -> float:
    """KL(left ‖ right) in nats."""
    return float(np.sum(left * np.log(left / right)))


def distance(left: Distribution, right: Distribution) -> float:
    """Total variation."""
    return float(np.abs(left - right).sum() / 2)


def learned(samples: NDArray[np.int64], weights: Distribution) -> Distribution:
    """The policy that maximises the weighted log-likelihood of (contexts, N) samples, found by gradient ascent."""
    evidence = np.bincount(samples.ravel(), weights.ravel(), OUTPUTS) / len(samples)
    logits = np.zeros(OUTPUTS)
    for _ in range(4000):
        policy = normalized(np.exp(logits))
        logits += 2.0 * (evidence - policy * evidence.sum())
    return normalized(np.exp(logits))


def self_normalized(samples: NDArray[np.int64], unnormalized: Distribution) -> Distribution:
    weights = unnormalized[samples]
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


Q = refinement_distribution()
TARGET = normalized(np.exp(BETA * REWARD))
TILTED = normalized(Q * np.exp(BETA * REWARD))
EXACT = np.exp(BETA * REWARD) / Q
DROPPED = np.exp(BETA * REWARD)


def expected_policy(unnormalized: Distribution, n: int) -> Distribution:
    """E over all OUTPUTS^n draws from q of the self-normalised weights, output by output: no sampling noise."""
    policy = np.zeros(OUTPUTS)
    for draw in itertools.product(range(OUTPUTS), repeat=n):
        drawn = np.array(draw)
        weights = unnormalized[drawn]
        np.add.at(policy, drawn, np.prod(Q[drawn]) * weights / weights.sum())
    return policy


def test_exact_weights_recover_the_target() -> None:
    samples = np.random.default_rng(0).choice(OUTPUTS, size=(200, 5000), p=Q)
    policy = learned(samples, self_normalized(samples, EXACT))
    assert distance(policy, TARGET) < 0.005
    # The sampling noise is far smaller than what dropping the ratio changes.
    assert distance(policy, TARGET) < 0.1 * distance(TILTED, TARGET)


def test_without_the_ratio_the_limit_is_the_tilted_proposal() -> None:
    samples = np.random.default_rng(1).choice(OUTPUTS, size=(200, 5000), p=Q)
    policy = learned(samples, self_normalized(samples, DROPPED))
    assert distance(policy, TILTED) < 0.005
    assert distance(policy, TARGET) > 0.05


def test_the_bias_has_the_predicted_direction_and_size() -> None:
    mean = float(TARGET @ Q)
    assert distance(TILTED, TARGET * Q / mean) < 1e-12
    assert ((TILTED > TARGET) == (mean < Q)).all()
    size = np.log(mean) - float(TARGET @ np.log(Q))
    assert size > 0.01
    assert divergence(TARGET, TILTED) == pytest.approx(size)


def test_equally_good_outputs_keep_the_proportion_of_the_refiner() -> None:
    assert REWARD[1] == REWARD[2]
    assert TARGET[1] == TARGET[2]
    assert TILTED[1] / TILTED[2] == pytest.approx(Q[1] / Q[2])


def test_a_refiner_without_preferences_makes_no_bias() -> None:
    uniform = np.full(OUTPUTS, 1 / OUTPUTS)
    assert normalized(uniform * DROPPED) == pytest.approx(TARGET)


def test_one_sample_teaches_the_proposal_whatever_the_weights() -> None:
    assert expected_policy(EXACT, 1) == pytest.approx(Q)
    assert expected_policy(DROPPED, 1) == pytest.approx(Q)


def test_more_samples_come_closer_to_each_limit() -> None:
    for unnormalized, limit in ((EXACT, TARGET), (DROPPED, TILTED)):
        errors = [distance(expected_policy(unnormalized, n), limit) for n in (1, 2, 3, 4, 5)]
        assert errors == sorted(errors, reverse=True)
        # O(1/N): what is left, times N, stays about the same.
        assert errors[4] * 5 < 2 * errors[1] * 2


def test_a_large_beta_makes_the_ratio_irrelevant_for_one_best_output() -> None:
    reward = REWARD.copy()
    reward[2] = 0.8
    sharp = np.exp(400.0 * (reward - reward.max()))
    best = np.eye(OUTPUTS)[1]
    assert normalized(sharp) == pytest.approx(best, abs=1e-9)
    assert normalized(Q * sharp) == pytest.approx(best, abs=1e-9)


def test_for_several_best_outputs_only_exact_weights_are_even_handed() -> None:
    sharp = np.exp(400.0 * (REWARD - REWARD.max()))
    assert normalized(sharp)[1:3] == pytest.approx([0.5, 0.5], abs=1e-9)
    assert normalized(Q * sharp)[1:3] == pytest.approx(Q[1:3] / Q[1:3].sum(), abs=1e-9)


def test_the_weights_of_n_samples_stay_within_their_bounds() -> None:
    n = 5
    samples = np.random.default_rng(2).choice(OUTPUTS, size=(2000, n), p=Q)
    weights = self_normalized(samples, DROPPED)
    assert weights.min() >= 1 / (1 + (n - 1) * np.exp(BETA))
    assert weights.max() <= 1 / (1 + (n - 1) * np.exp(-BETA))


@pytest.mark.parametrize("prior", [Q, np.full(OUTPUTS, 1 / OUTPUTS)], ids=["refiner", "uniform"])
def test_kl_penalised_rl_has_the_posterior_as_its_best_policy(prior: Distribution) -> None:
    def objective(policy: Distribution) -> float:
        return BETA * float(policy @ REWARD) - divergence(policy, prior)

    evidence = float(prior @ np.exp(BETA * REWARD))
    posterior = prior * np.exp(BETA * REWARD) / evidence
    assert posterior == pytest.approx(TILTED if prior is Q else TARGET)
    for policy in np.random.default_rng(3).dirichlet(np.ones(OUTPUTS), size=200):
        assert objective(policy) == pytest.approx(np.log(evidence) - divergence(policy, posterior))
        assert objective(policy) <= objective(posterior)
