"""Calls through a front: shared between workers, repeated where one goes, refused in time, cancelled to the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from ilf.common.v1 import common_pb2
from ilf.refinement.v1 import refinement_service_pb2 as pb

from ilf_common.errors import InvalidArgumentError, NotFoundError, ResourceExhaustedError, UnavailableError
from ilf_common.front.worker import Worker
from tests.rpc.front.harness import Addresses, PoolWorker, batch, running_front, running_pool, single
from tests.rpc.refinement.harness import fields, item_error, outcomes, refused


async def test_a_batch_is_shared_and_answered_as_by_one_worker(tmp_path: Path) -> None:
    """Every item once, with the samples that a single worker draws; all workers get a part."""
    async with running_pool(tmp_path, 1) as pool:
        alone = await outcomes(pool.stub.BatchRefine(batch(300)))
        await pool.add(pool.workers[1])
        await pool.add(pool.workers[2])
        await pool.ready(3)
        shared = await outcomes(pool.stub.BatchRefine(batch(300)))
        assert shared == alone and len(shared) == 300
        assert all(worker.base.requests for worker in pool.workers)
        numbers = await pool.until(lambda now: now.running_items == 0)
        assert (numbers.pool, numbers.queued_items, numbers.finished_items) == ("refinement", 0, 600)
        assert numbers.busy_worker_seconds > 0


async def test_a_worker_that_breaks_off_costs_nothing_but_its_unanswered_items(tmp_path: Path) -> None:
    async with running_pool(tmp_path, 2) as pool:
        first, second = pool.workers[:2]
        first.base.gate.clear()
        running = asyncio.create_task(outcomes(pool.stub.BatchRefine(batch(100))))
        await pool.until(lambda now: now.running_items > 0 and bool(first.base.requests))
        await first.kill()
        assert len(await running) == 100
        assert len(second.base.requests) == 100


async def test_a_worker_that_goes_after_its_last_outcome_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Worker.stream

    async def breaks_at_its_end(self: Worker, *args: Any, **options: Any) -> AsyncIterator[Any]:
        async for response in stream(self, *args, **options):
            yield response
        raise UnavailableError("the connection broke")

    monkeypatch.setattr(Worker, "stream", breaks_at_its_end)
    async with running_pool(tmp_path, 1) as pool:
        assert len(await outcomes(pool.stub.BatchRefine(batch(10)))) == 10


async def test_an_engine_that_dies_is_no_error_while_another_worker_lives(tmp_path: Path) -> None:
    """Items that fail with UNAVAILABLE inside an answered batch are given to another worker too."""
    async with running_pool(tmp_path, 2) as pool:
        pool.workers[0].base.dead = True
        found = await outcomes(pool.stub.BatchRefine(batch(40)))
        assert len(found) == 40 and all(one.HasField("result") for one in found.values())
        for _ in range(4):
            assert (await pool.stub.Refine(single())).refinements


async def test_a_draining_worker_finishes_what_it_has_and_gets_nothing_new(tmp_path: Path) -> None:
    async with running_pool(tmp_path, 2) as pool:
        first, second = pool.workers[:2]
        first.base.gate.clear()
        second.base.gate.clear()
        running = [asyncio.create_task(_refine(pool.stub)) for _ in range(2)]
        await pool.until(lambda now: bool(first.base.requests and second.base.requests))
        draining = asyncio.create_task(first.drain())
        await pool.ready(1)
        second.base.gate.set()
        for _ in range(5):
            await pool.stub.Refine(single())
        first.base.gate.set()
        assert all(await asyncio.gather(*running))
        await draining
        assert len(first.base.requests) == 1


async def _refine(stub: Any) -> Any:
    return (await stub.Refine(single())).refinements


async def test_a_call_waits_for_a_worker_and_counts_as_queued_meanwhile(tmp_path: Path) -> None:
    async with running_pool(tmp_path, 0) as pool:
        waiting = asyncio.create_task(outcomes(pool.stub.BatchRefine(batch(50))))
        assert (await pool.until(lambda now: now.queued_items > 0)).queued_items == 50
        await pool.add(pool.workers[0])
        assert len(await waiting) == 50


async def test_without_a_worker_the_caller_hears_of_it_before_its_deadline(tmp_path: Path) -> None:
    async with running_pool(tmp_path, 0, wait_seconds=0.3) as pool:
        for call in (pool.stub.Refine(single(), timeout=1.5), pool.stub.Refine(single())):
            error = await refused(call)
            assert isinstance(error, UnavailableError) and error.reason == "NO_WORKER" and error.retry_after
        error = await refused(outcomes(pool.stub.BatchRefine(batch(3), timeout=0.5)))
        assert isinstance(error, UnavailableError) and error.reason == "NO_WORKER"
        assert (await pool.until(lambda now: True)).queued_items == 0


async def test_a_full_line_refuses_with_a_time_to_come_back(tmp_path: Path) -> None:
    async with running_pool(tmp_path, 0, max_queued_items=10) as pool:
        waiting = pool.stub.BatchRefine(batch(10))
        reading = asyncio.create_task(outcomes(waiting))
        await pool.until(lambda now: now.queued_items == 10)
        error = await refused(pool.stub.Refine(single()))
        assert isinstance(error, ResourceExhaustedError) and error.reason == "QUEUE_FULL" and error.retry_after
        reading.cancel()
        await pool.until(lambda now: now.queued_items == 0)


async def test_cancelling_reaches_the_worker_s_engine(tmp_path: Path) -> None:
    async with running_pool(tmp_path, 1) as pool:
        engine = pool.workers[0].base
        engine.gate.clear()
        calls = [
            asyncio.create_task(outcomes(pool.stub.BatchRefine(batch(5)))),
            asyncio.create_task(_refine(pool.stub)),
        ]
        await pool.until(lambda now: now.running_items == 6 and len(engine.requests) == 2)
        for call in calls:
            call.cancel()
        await pool.until(lambda now: now.running_items == 0)
        engine.gate.set()
        async with asyncio.timeout(10):
            while engine.aborted < 2:
                await asyncio.sleep(0.01)


async def test_a_deadline_reaches_the_worker(tmp_path: Path) -> None:
    async with running_pool(tmp_path, 1) as pool:
        pool.workers[0].base.gate.clear()
        with pytest.raises(grpc.RpcError) as caught:
            await pool.stub.Refine(single(), timeout=0.5)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await pool.until(lambda now: now.running_items == 0)


async def test_a_single_call_passes_a_large_batch(tmp_path: Path) -> None:
    """One place in the line for each call: thousands of rows do not hold up an application's one."""
    async with running_pool(tmp_path, 1, worker_items=4) as pool:
        engine = pool.workers[0].base
        engine.gate.clear()
        large = asyncio.create_task(outcomes(pool.stub.BatchRefine(batch(500))))
        await pool.until(lambda now: now.running_items == 4)
        small = asyncio.create_task(_refine(pool.stub))
        await pool.until(lambda now: now.queued_items == 497)
        engine.gate.set()
        await small
        assert not large.done()
        assert len(await large) == 500


async def test_errors_of_the_worker_arrive_as_they_are(tmp_path: Path) -> None:
    """What is wrong is told with the fields of the caller's own batch, wherever a piece of it was worked on."""
    async with running_pool(tmp_path, 2, worker_items=8) as pool:
        error = await refused(pool.stub.Refine(single(model="nobody")))
        assert isinstance(error, NotFoundError) and error.reason == "MODEL_NOT_FOUND"
        bad = batch(20)
        bad.items[13].context = ""
        found = await outcomes(pool.stub.BatchRefine(bad))
        assert len(found) == 20
        assert item_error(found["row-13"].error)[2] == {"items[13].context"}
        twice = batch(20)
        twice.items[15].item_id = "row-2"
        error = await refused(outcomes(pool.stub.BatchRefine(twice)))
        assert isinstance(error, InvalidArgumentError) and fields(error) == {"items[2].item_id", "items[15].item_id"}
        assert isinstance(await refused(outcomes(pool.stub.BatchRefine(batch(0)))), InvalidArgumentError)
        hot = batch(20)
        hot.sampling.MergeFrom(common_pb2.SamplingParams(temperature=99))
        error = await refused(outcomes(pool.stub.BatchRefine(hot)))
        assert isinstance(error, InvalidArgumentError) and fields(error) == {"sampling.temperature"}


async def test_a_silent_name_server_does_not_take_the_workers_away(tmp_path: Path) -> None:
    async with running_pool(tmp_path, 1) as pool:
        pool.addresses.broken = True
        await asyncio.sleep(0.2)
        assert await _refine(pool.stub)
        pool.addresses.broken = False
        pool.addresses.now.clear()
        await pool.ready(0)


async def test_workers_are_believed_under_the_name_of_their_service_alone(tmp_path: Path) -> None:
    """One certificate for the name serves every address; a worker that shows another name gets nothing."""
    from ilf_common.rpc.client import ChannelSettings
    from ilf_common.settings import ServerSettings
    from tests.certificates import Authority
    from tests.support import free_ports

    ours = Authority(tmp_path, "ours")
    shown, key = ours.issue("front", name="front.example")
    (port,) = free_ports(1)
    addresses = Addresses()
    workers = []
    for host, name in (("127.0.0.2", "workers.example"), ("127.0.0.3", "stranger.example")):
        certificate, server_key = ours.issue(host, name=name)
        server = ServerSettings(
            port=0, tls_cert_file=certificate, tls_key_file=server_key, tls_client_ca_file=ours.file
        )
        workers.append(PoolWorker(tmp_path, host, port, server))
    settings = ChannelSettings(
        address=f"workers.example:{port}", tls_ca_file=ours.file, tls_cert_file=shown, tls_key_file=key
    )
    async with running_front(tmp_path, addresses, workers=settings) as pool:
        for worker in workers:
            await pool.add(worker)
        await pool.ready(1)
        assert await _refine(pool.stub)
        assert workers[0].base.requests and not workers[1].base.requests
        for worker in workers:
            await worker.kill()


async def test_listing_wakes_nobody_once_a_worker_was_there(tmp_path: Path) -> None:
    async with running_pool(tmp_path, 1) as pool:
        worker = pool.workers[0]
        assert [one.name for one in (await pool.stub.ListPolicies(pb.ListPoliciesRequest())).policies] == ["base"]
        await worker.kill()
        await pool.ready(0)
        listed = (await pool.stub.ListPolicies(pb.ListPoliciesRequest())).policies
        assert [(one.name, one.state) for one in listed] == [("base", pb.POLICY_STATE_PARKED)]
        assert (await pool.stub.GetPolicy(pb.GetPolicyRequest(name="base"))).digest
        assert (await pool.until(lambda now: True)).queued_items == 0
