"""Rates and start-up times come from what fronts say, and from nothing else."""

from datetime import datetime, timedelta

import pytest

from services.orchestrator.pools.measuring import RateMeter, StartMeter
from services.orchestrator.pools.models import FrontStatus
from tests.unit.services.orchestrator.pools.runs import NOW


def counted(items: int, seconds: float) -> FrontStatus:
    return FrontStatus(finished_items=items, busy_worker_seconds=seconds)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_a_rate_is_that_of_one_worker_and_needs_some_items() -> None:
    meter = RateMeter()
    meter.note(counted(4, 1.0))
    assert meter.items_per_second is None
    meter.note(counted(40, 10.0))
    assert meter.items_per_second == 4.0


def test_the_newest_work_counts_most() -> None:
    meter = RateMeter()
    meter.note(counted(1000, 1000.0))
    meter.note(counted(1000 + 5 * 480, 1000.0 + 480))
    assert meter.items_per_second == pytest.approx(4.2, abs=0.01)


def test_a_front_that_begins_anew_starts_its_counters_at_zero() -> None:
    meter = RateMeter()
    meter.note(counted(100, 10.0))
    meter.note(counted(20, 2.0))
    assert meter.items_per_second == pytest.approx(10.0)


def test_a_start_is_timed_from_the_wish_to_the_first_ready_worker() -> None:
    meter = StartMeter()
    meter.note(0, 0, NOW)
    meter.note(2, 0, after(1))
    assert meter.waking_seconds(after(5)) == 4.0
    meter.note(2, 0, after(20))
    meter.note(2, 1, after(31))
    assert meter.start_seconds == 30.0
    assert meter.waking_seconds(after(40)) == 0.0


def test_the_shortest_of_the_last_starts_counts() -> None:
    meter = StartMeter()
    for begin, took in ((0, 300.0), (1000, 40.0), (2000, 900.0)):
        meter.note(0, 0, after(begin))
        meter.note(1, 0, after(begin))
        meter.note(1, 1, after(begin + took))
    assert meter.start_seconds == 40.0


def test_a_pool_that_was_not_seen_asleep_is_not_timed() -> None:
    meter = StartMeter()
    meter.note(1, 0, NOW)
    meter.note(1, 1, after(3))
    meter.note(1, 0, after(4))
    meter.note(1, 1, after(5))
    assert meter.start_seconds is None
