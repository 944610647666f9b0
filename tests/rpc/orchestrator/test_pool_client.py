"""The orchestrator understands what a real front says."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from ilf_common.errors import UnavailableError
from ilf_common.rpc.client import ChannelSettings, open_channel
from services.orchestrator.adapters.pool_client import PoolClient
from tests.rpc.front.harness import batch, running_pool
from tests.rpc.refinement.harness import outcomes


async def test_a_front_s_numbers_arrive_as_they_change_and_its_drain_ends_them(tmp_path: Path) -> None:
    async with running_pool(tmp_path, 2) as pool, aclosing(PoolClient(pool.channel).watch()) as statuses:
        assert (await anext(statuses)).ready_workers == 2
        await outcomes(pool.stub.BatchRefine(batch(40)))
        async with asyncio.timeout(10):
            async for status in statuses:
                if status.finished_items == 40:
                    break
        assert (status.queued_items, status.running_items) == (0, 0)
        assert status.busy_worker_seconds > 0
        await pool.front.pool.drain()
        assert [status async for status in statuses] == []


async def test_a_front_that_is_not_there_is_unavailable() -> None:
    async with open_channel(ChannelSettings(address="127.0.0.1:1")) as channel:
        with pytest.raises(UnavailableError):
            await anext(PoolClient(channel).watch())
