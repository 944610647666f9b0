"""What a front tells of its pool, to whoever scales it and to Prometheus."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from ilf.pool.v1 import pool_service_pb2 as pool_pb
from prometheus_client import generate_latest

from ilf_common.front import status
from tests.rpc.front.harness import batch, running_pool
from tests.rpc.refinement.harness import outcomes


async def test_numbers_come_at_once_then_after_changes_but_not_too_often(tmp_path: Path) -> None:
    async with running_pool(tmp_path, 1, worker_items=8) as pool:
        watching = pool.status.WatchPool(pool_pb.WatchPoolRequest())
        first = await watching.read()
        assert (first.ready_workers, first.finished_items) == (1, 0) and first.since.seconds > 0
        began, messages = time.monotonic(), 0
        await outcomes(pool.stub.BatchRefine(batch(400)))
        while first.finished_items < 400:
            first = await watching.read()
            messages += 1
        assert messages <= (time.monotonic() - began) / 0.2 + 2


async def test_silence_is_broken_and_draining_ends_the_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "_LONGEST_PAUSE_SECONDS", 0.05)
    async with running_pool(tmp_path, 0) as pool:
        watching = pool.status.WatchPool(pool_pb.WatchPoolRequest())
        assert await watching.read() == await watching.read()
        await pool.front.pool.drain()
        async with asyncio.timeout(5):
            async for _ in watching:
                pass


async def test_prometheus_reads_the_same_numbers(tmp_path: Path) -> None:
    async with running_pool(tmp_path, 1) as pool:
        await outcomes(pool.stub.BatchRefine(batch(30)))
        page = generate_latest(pool.registry).decode()
        assert 'ilf_front_finished_items_total{pool="refinement"} 30.0' in page
        assert 'ilf_front_ready_workers{pool="refinement"} 1.0' in page
        assert 'ilf_front_queued_items{pool="refinement"} 0.0' in page
        assert 'ilf_front_busy_worker_seconds_total{pool="refinement"}' in page
        assert 'ilf_front_queued_item_seconds_total{pool="refinement"}' in page
