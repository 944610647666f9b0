"""Which release `ilf connect` and `ilf doctor` mean, and what they say where it is unclear."""

from __future__ import annotations

import pytest

from ilf_client.cluster.release import COMPONENTS, find_release
from ilf_common.errors import FailedPreconditionError, NotFoundError
from tests.fakes.cluster import FakeCluster, release_services


def test_the_only_release_is_found_by_its_labels() -> None:
    release = find_release(FakeCluster())
    assert (release.name, release.fullname, release.chart, release.app_version) == ("ilf", "ilf", "ilf-0.1.0", "0.1.0")
    assert set(release.services) == set(COMPONENTS)
    assert release.services["refinement"].name == "ilf-refinement"


def test_a_release_without_rewards_has_four_services() -> None:
    cluster = FakeCluster()
    cluster.all_services = [one for one in cluster.all_services if one.name != "ilf-reward"]
    assert set(find_release(cluster).services) == set(COMPONENTS) - {"reward"}


def test_no_release_is_told_with_the_namespace() -> None:
    cluster = FakeCluster()
    cluster.all_services = []
    with pytest.raises(NotFoundError, match="namespace here"):
        find_release(cluster)


def test_one_of_several_must_be_named() -> None:
    cluster = FakeCluster()
    cluster.all_services += release_services("other-ilf")
    with pytest.raises(FailedPreconditionError, match="ilf, other-ilf") as caught:
        find_release(cluster)
    assert caught.value.reason == "RELEASE_AMBIGUOUS"
    assert find_release(cluster, "other-ilf").fullname == "other-ilf"


def test_a_half_installed_release_is_no_release() -> None:
    cluster = FakeCluster()
    cluster.all_services = [one for one in cluster.all_services if one.name != "ilf-orchestrator"]
    with pytest.raises(FailedPreconditionError, match="orchestrator"):
        find_release(cluster)
