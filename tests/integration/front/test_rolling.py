"""Workers as real processes that are updated, scaled down and killed one after the other under load: no call fails."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ilf.refinement.v1 import refinement_service_pb2 as pb

from tests.rpc.front.harness import Addresses, Pool, batch, running_front, single
from tests.rpc.refinement.harness import outcomes
from tests.support import free_ports

pytestmark = pytest.mark.crash

WORKER = Path(__file__).parents[2] / "fakes" / "refinement_worker.py"


@dataclass
class Load:
    """Calls that never pause; a call that fails ends the test with its error."""

    pool: Pool
    finished: Counter[str] = field(default_factory=Counter)

    async def batches(self) -> None:
        while True:
            found = await outcomes(self.pool.stub.BatchRefine(batch(60, model="run/it-1")))
            assert len(found) == 60 and all(one.HasField("result") for one in found.values())
            self.finished["batches"] += 1

    async def singles(self) -> None:
        while True:
            assert (await self.pool.stub.Refine(single())).refinements
            self.finished["singles"] += 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(kind()) for kind in (self.batches, self.batches, self.batches, self.singles)]
        try:
            yield
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def goes_on(self) -> None:
        """Waits for two more of each."""
        before = self.finished.copy()
        async with asyncio.timeout(30):
            while any(self.finished[kind] < before[kind] + 2 for kind in ("batches", "singles")):
                await asyncio.sleep(0.05)


class Workers:
    """The processes, by address."""

    def __init__(self, root: Path, addresses: Addresses) -> None:
        self._root = root
        self._addresses = addresses
        self._running: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, address: str) -> None:
        self._running[address] = await asyncio.create_subprocess_exec(
            sys.executable, str(WORKER), address, str(self._root), stdout=asyncio.subprocess.DEVNULL
        )
        self._addresses.now.add(address)

    async def end(self, address: str, number: signal.Signals) -> int:
        process = self._running.pop(address)
        process.send_signal(number)
        return await asyncio.wait_for(process.wait(), 40)

    async def end_all(self) -> None:
        await asyncio.gather(*(self.end(address, signal.SIGKILL) for address in list(self._running)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["update", "kill"])
async def test_no_call_fails_while_workers_are_replaced_one_after_the_other(
    tmp_path: Path, number: signal.Signals
) -> None:
    """The version that was loaded once is served by every process that comes later, which proves the replay."""
    (port,) = free_ports(1)
    places = [f"127.0.0.{host}:{port}" for host in (2, 3, 4)]
    addresses = Addresses()
    workers = Workers(tmp_path, addresses)
    async with running_front(tmp_path, addresses, worker_items=32) as pool:
        try:
            for place in places:
                await workers.start(place)
            await pool.ready(3)
            uri = pool.publish("one", "1")
            await pool.stub.LoadPolicy(pb.LoadPolicyRequest(name="run/it-1", uri=uri))
            load = Load(pool)
            async with load.running():
                await load.goes_on()
                for place in itertools.islice(itertools.cycle(places), 4):
                    code = await workers.end(place, number)
                    assert code == (0 if number is signal.SIGTERM else -signal.SIGKILL)
                    await load.goes_on()
                    await workers.start(place)
                    await pool.ready(3)
                # Scale-down: the address goes away while the worker still has calls.
                addresses.now.discard(places[0])
                await pool.ready(2)
                assert await workers.end(places[0], signal.SIGTERM) == 0
                await load.goes_on()
        finally:
            await workers.end_all()
