"""Control calls through a front: on all workers or on none, remembered, and brought to workers that come later."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest
from ilf.refinement.v1 import refinement_service_pb2 as pb

from ilf_common.errors import FailedPreconditionError, NotFoundError, UnavailableError
from tests.rpc.front.harness import Pool, batch, running_front, running_pool, single
from tests.rpc.refinement.harness import CheckpointEngine, outcomes, refused


async def load(pool: Pool, name: str, uri: str, **changes: Any) -> pb.Policy:
    return await pool.stub.LoadPolicy(pb.LoadPolicyRequest(request_id=str(uuid.uuid4()), name=name, uri=uri, **changes))


async def serves(pool: Pool, model: str) -> set[str]:
    """The versions that a batch over all workers is answered by."""
    found = await outcomes(pool.stub.BatchRefine(batch(200, model=model)))
    assert all(one.HasField("result") for one in found.values()), found
    return {one.result.model_version for one in found.values()}


async def test_a_version_is_loaded_by_every_worker(tmp_path: Path) -> None:
    async with running_pool(tmp_path, 3) as pool:
        policy = await load(pool, "run/it-1", pool.publish("one", "1"))
        assert all(worker.loaded == {"one"} for worker in pool.workers)
        assert await serves(pool, "run/it-1") == {f"run/it-1@{policy.digest}"}
        again = await load(pool, "run/it-1", "one")
        assert again.digest == policy.digest


async def test_one_worker_that_cannot_makes_all_go_back_and_says_why(tmp_path: Path) -> None:
    """The version that served before serves on, everywhere; what was new is gone again."""
    async with running_pool(tmp_path, 3) as pool:
        old = await load(pool, "run/it-1", pool.publish("one", "1"))
        weak = pool.workers[1]

        def cannot(engine: CheckpointEngine) -> None:
            engine.fail_to_start = True

        weak.prepare = cannot
        for name, uri in (("run/it-2", pool.publish("two", "2")), ("run/it-1", pool.publish("three", "3"))):
            for engine in weak.engines.values():
                engine.fail_to_reload = True
            error = await refused(load(pool, name, uri, replace=True))
            assert isinstance(error, FailedPreconditionError) and error.reason == "CHECKPOINT_UNSUPPORTED", error
            assert weak.address in error.message and "2 of 3" in error.message
        weak.prepare = lambda engine: None
        assert await serves(pool, "run/it-1") == {f"run/it-1@{old.digest}"}
        assert isinstance(await refused(pool.stub.Refine(single(model="run/it-2"))), NotFoundError)
        names = [one.name for one in (await pool.stub.ListPolicies(pb.ListPoliciesRequest())).policies]
        assert sorted(names) == ["base", "run/it-1"]


async def test_a_worker_that_comes_later_knows_the_newest_version_before_its_first_call(tmp_path: Path) -> None:
    """Older versions and what they sit on come with the first call that names them."""
    async with running_pool(tmp_path, 1) as pool:
        digests = {}
        for number in range(1, 4):
            policy = await load(pool, f"run/it-{number}", pool.publish(f"version-{number}", str(number)))
            digests[number] = policy.digest
        late = pool.workers[1]
        await pool.add(late)
        await pool.ready(2)
        assert late.loaded == {"version-3"}
        await pool.workers[0].kill()
        pool.addresses.now.discard(pool.workers[0].address)
        await pool.ready(1)
        assert await serves(pool, "run/it-1") == {f"run/it-1@{digests[1]}"}
        assert late.loaded == {"version-3", "version-1"}
        listed = {one.name: one.state for one in (await pool.stub.ListPolicies(pb.ListPoliciesRequest())).policies}
        assert listed["run/it-2"] == pb.POLICY_STATE_PARKED and listed["run/it-1"] == pb.POLICY_STATE_SERVING


async def test_aliases_and_what_they_roll_back_to_survive_all_workers_and_the_front(tmp_path: Path) -> None:
    async with running_pool(tmp_path, 1) as pool:
        first = await load(pool, "run/it-1", pool.publish("one", "1"))
        await load(pool, "run/it-2", pool.publish("two", "2"))
        for name in ("run/it-1", "run/it-2"):
            await pool.stub.PromotePolicy(pb.PromotePolicyRequest(alias="live", name=name))
        await pool.workers[0].kill()
        await pool.ready(0)
        async with running_front(tmp_path, pool.addresses) as second:
            at_rest = await second.stub.GetPolicy(pb.GetPolicyRequest(name="live"))
            assert at_rest.name == "run/it-2"
            assert list(at_rest.aliases) == ["live"] and dict(at_rest.rollback_targets) == {"live": "run/it-1"}
            fresh = pool.workers[1]
            pool.addresses.now.clear()
            await second.add(fresh)
            await second.ready(1)
            back = pb.RollbackPolicyRequest(request_id=str(uuid.uuid4()), alias="live")
            for _ in range(2):
                assert (await second.stub.RollbackPolicy(back)).policy == "run/it-1"
            assert await serves(second, "live") == {f"run/it-1@{first.digest}"}


async def test_what_was_unloaded_stays_away(tmp_path: Path) -> None:
    async with running_pool(tmp_path, 2) as pool:
        await load(pool, "run/it-1", pool.publish("one", "1"))
        await pool.stub.UnloadPolicy(pb.UnloadPolicyRequest(name="run/it-1"))
        await pool.add(pool.workers[2])
        await pool.ready(3)
        assert pool.workers[2].loaded == set()
        error = await refused(pool.stub.Refine(single(model="run/it-1")))
        assert error.reason == "MODEL_NOT_FOUND"
        assert [one.name for one in (await pool.stub.ListPolicies(pb.ListPoliciesRequest())).policies] == ["base"]


async def test_loading_wakes_a_sleeping_pool_and_waits_for_it(tmp_path: Path) -> None:
    async with running_pool(tmp_path, 0, wait_seconds=10) as pool:
        uri = pool.publish("one", "1")
        loading = asyncio.create_task(load(pool, "run/it-1", uri))
        assert (await pool.until(lambda now: now.queued_items > 0)).queued_items == 1
        await pool.add(pool.workers[0])
        assert (await loading).name == "run/it-1"
        await pool.workers[0].kill()
        await pool.ready(0)
        request = pb.LoadPolicyRequest(name="run/it-2", uri=uri)
        error = await refused(pool.stub.LoadPolicy(request, timeout=0.5))
        assert isinstance(error, UnavailableError) and error.reason == "NO_WORKER"


async def test_a_worker_that_dies_during_a_load_does_not_hold_it_up(tmp_path: Path) -> None:
    """It is no refusal: who is gone is told when it comes back."""
    async with running_pool(tmp_path, 2) as pool:
        dying = pool.workers[0]
        started = asyncio.Event()
        stuck = asyncio.Event()

        def hang(engine: CheckpointEngine) -> None:
            async def start() -> None:
                started.set()
                await stuck.wait()

            engine.start = start  # type: ignore[method-assign]

        dying.prepare = hang
        loading = asyncio.create_task(load(pool, "run/it-1", pool.publish("one", "1")))
        await started.wait()
        await dying.kill()
        policy = await loading
        stuck.set()
        dying.prepare = lambda engine: None
        await dying.start()
        await pool.ready(2)
        assert dying.loaded == {"one"}
        assert await serves(pool, "run/it-1") == {f"run/it-1@{policy.digest}"}


async def test_a_version_that_is_gone_keeps_no_worker_from_serving_the_rest(tmp_path: Path) -> None:
    async with running_pool(tmp_path, 1) as pool:
        await load(pool, "run/it-1", pool.publish("one", "1"))
        pool.store.delete("one")
        await pool.add(pool.workers[1])
        await pool.ready(2)
        await pool.workers[0].kill()
        await pool.ready(1)
        assert (await pool.stub.Refine(single())).refinements
        error = await refused(pool.stub.Refine(single(model="run/it-1")))
        assert error.reason == "CHECKPOINT_NOT_FOUND"


async def test_without_the_store_workers_serve_on_and_nothing_half_done_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A control call that cannot be written down is taken back; a worker that comes meanwhile still serves."""
    async with running_pool(tmp_path, 1) as pool:
        uri = pool.publish("one", "1")
        front_store = pool.front.store

        def away(*arguments: Any) -> None:
            raise OSError("no route to the store")

        with monkeypatch.context() as outage:
            outage.setattr(front_store, "write_bytes", away)
            error = await refused(load(pool, "run/it-1", uri))
            assert isinstance(error, UnavailableError) and error.reason == "STORE_UNAVAILABLE" and error.retry_after
            assert (await refused(pool.stub.Refine(single(model="run/it-1")))).reason == "MODEL_NOT_FOUND"
            outage.setattr(front_store, "read_bytes", away)
            await pool.add(pool.workers[1])
            await pool.ready(2)
            assert await serves(pool, "base") != set()
        policy = await load(pool, "run/it-1", uri)
        assert await serves(pool, "run/it-1") == {f"run/it-1@{policy.digest}"}
