"""Pools are configured by the service that they serve, and wrong values are named."""

import pytest

from ilf_common.errors import InvalidArgumentError
from ilf_common.settings import load_settings
from services.orchestrator.settings import OrchestratorSettings


def loaded(pools: str) -> OrchestratorSettings:
    return load_settings(OrchestratorSettings, "orchestrator", {"ILF_ORCHESTRATOR__POOLS": pools})


def test_without_pools_nothing_is_scaled() -> None:
    settings = load_settings(OrchestratorSettings, "orchestrator", {})
    assert settings.pools == {} and settings.scaler is None


def test_a_pool_needs_only_its_front() -> None:
    pool = loaded('{"ranking": {"front": {"address": "front:50052"}}}').pools["ranking"]
    assert (pool.front.address, pool.min_replicas, pool.max_replicas, pool.hand_over) == ("front:50052", 0, 1, False)


@pytest.mark.parametrize(
    ("pools", "problem"),
    [
        ('{"rank": {"front": {"address": "a"}}}', "should be 'refinement', 'ranking' or 'reward'"),
        ('{"reward": {}}', "required"),
        ('{"reward": {"front": {"address": "a"}, "min_replicas": 3, "max_replicas": 2}}', "min_replicas 3 is more"),
        ('{"reward": {"front": {"address": "a"}, "idle": 3}}', "not permitted"),
    ],
)
def test_a_wrong_pool_is_refused_by_name(pools: str, problem: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        loaded(pools)
    said = str(caught.value)
    assert "ILF_ORCHESTRATOR__POOLS" in said and problem in said
