from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from ilf_common.errors import ResourceExhaustedError
from services.refinement.adapters.metrics import PrometheusMetrics
from services.refinement.queueing import ItemQueue


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def queue(registry: CollectorRegistry) -> ItemQueue:
    return ItemQueue(10, PrometheusMetrics(registry))


def test_calls_share_the_limit_over_all_models(queue: ItemQueue) -> None:
    with queue.admit("a", 6), queue.admit("b", 4), pytest.raises(ResourceExhaustedError, match="10 items") as caught:
        queue.admit("a", 1).__enter__()

    assert caught.value.retry_after == 1.0


def test_finished_items_make_room_before_their_call_ends(queue: ItemQueue) -> None:
    with queue.admit("a", 10) as ticket:
        ticket.finish(3)
        with queue.admit("b", 3):
            pass


def test_a_call_larger_than_the_limit_gets_in_when_nothing_is_there(queue: ItemQueue) -> None:
    with queue.admit("a", 20):
        pass
    with queue.admit("a", 1), pytest.raises(ResourceExhaustedError):
        queue.admit("a", 20).__enter__()


def test_places_come_back_when_a_call_fails(queue: ItemQueue, registry: CollectorRegistry) -> None:
    with pytest.raises(ValueError), queue.admit("a", 10) as ticket:
        ticket.finish(2)
        assert registry.get_sample_value("ilf_refinement_running_items", {"model": "a"}) == 8
        raise ValueError

    assert registry.get_sample_value("ilf_refinement_running_items", {"model": "a"}) == 0
    assert registry.get_sample_value("ilf_refinement_queue_items") == 0
