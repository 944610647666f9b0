"""What a front costs by the number of its workers: memory, processor time at rest, and processor time a row.

`python -m benchmarks.front` starts the refinement front as a process of its own. Its workers are this process, which
answers at once under as many loopback addresses as there are to be workers, so nothing but the front is measured: its
processor time for rows of about 600 characters with five refinements each, in batches, as runs send them. Rows a core
follow from it; the time on the clock would be that of callers and workers too.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import psutil
from grpc_health.v1 import health_pb2_grpc
from ilf.common.v1 import common_pb2
from ilf.pool.v1 import pool_service_pb2 as pool_pb
from ilf.pool.v1 import pool_service_pb2_grpc as pool_grpc
from ilf.refinement.v1 import refinement_service_pb2 as pb
from ilf.refinement.v1 import refinement_service_pb2_grpc as pb_grpc

from benchmarks.recording import print_table, record
from ilf_common.front.run import Front
from ilf_common.front.settings import FrontSettings, front_server
from ilf_common.rpc.client import ChannelSettings, open_channel
from ilf_common.rpc.health import HealthServicer
from ilf_common.rpc.server import serve
from ilf_common.settings import StoreSettings
from services.refinement.front import API
from tests.support import free_ports

BATCH_ROWS = 256
BATCHES_AT_ONCE = 4
REST_SECONDS = 10.0
TEXT = "word " * 40


class InstantWorker(pb_grpc.RefinementServiceServicer):
    """Answers every row with five refinements at once."""

    async def BatchRefine(self, request: pb.BatchRefineRequest, context: Any) -> AsyncIterator[pb.BatchRefineResponse]:  # noqa: D102
        one = pb.RefineResponse(refinements=[common_pb2.Sample(text=TEXT)] * 5)
        yield pb.BatchRefineResponse(outcomes=[pb.RefineOutcome(item_id=i.item_id, result=one) for i in request.items])

    async def ListPolicies(self, request: pb.ListPoliciesRequest, context: Any) -> pb.ListPoliciesResponse:  # noqa: D102
        return pb.ListPoliciesResponse()


@asynccontextmanager
async def instant_workers() -> AsyncIterator[int]:
    """The port at which every loopback address is a worker."""
    server = grpc.aio.server()
    pb_grpc.add_RefinementServiceServicer_to_server(InstantWorker(), server)  # type: ignore[no-untyped-call]
    health = HealthServicer([API.service.full_name])
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("0.0.0.0:0")
    await server.start()
    await health.set_serving(True)
    try:
        yield port
    finally:
        await server.stop(None)


async def run_front(port: int, worker_port: int, workers: int) -> None:
    """The front, in a process of its own."""
    addresses = frozenset(f"127.1.{number // 250}.{number % 250 + 1}:{worker_port}" for number in range(workers))

    async def resolve() -> frozenset[str]:
        return addresses

    with tempfile.TemporaryDirectory() as root:
        settings = FrontSettings(
            server=front_server(port, 0),
            store=StoreSettings(root=root),
            workers=ChannelSettings(address=f"workers:{worker_port}"),
        )
        front = Front(API, settings, resolve=resolve)
        await serve("refinement-front", settings.server, register=front.register, start=front.start, stop=front.stop)


async def measure(workers: int, rows: int) -> dict[str, Any]:
    """One front with so many workers, at rest and under load."""
    (port,) = free_ports(1)
    async with instant_workers() as worker_port:
        own = [str(number) for number in (port, worker_port, workers)]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.front", "--front", *own, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            front = psutil.Process(process.pid)
            async with open_channel(ChannelSettings(address=f"127.0.0.1:{port}")) as channel:
                await _ready(channel, workers)
                at_rest = await _at_rest(front)
                seconds, used = await _loaded(channel, front, rows)
            memory = front.memory_info().rss / 2**20
        finally:
            process.terminate()
            await process.wait()
    return {
        "workers": workers,
        "MiB": round(memory),
        "at rest, share of a core": f"{100 * at_rest:.1f} %",
        "ms of a core for 1,000 rows": round(1e6 * used / rows),
        "rows/s a core": round(rows / used),
        "rows/s seen": round(rows / seconds),
    }


async def _ready(channel: grpc.aio.Channel, workers: int) -> None:
    stub: Any = pool_grpc.PoolServiceStub(channel)  # type: ignore[no-untyped-call]
    async for numbers in stub.WatchPool(pool_pb.WatchPoolRequest(), wait_for_ready=True, timeout=120):
        if numbers.ready_workers == workers:
            return


async def _at_rest(front: psutil.Process) -> float:
    before = _used(front)
    await asyncio.sleep(REST_SECONDS)
    return (_used(front) - before) / REST_SECONDS


async def _loaded(channel: grpc.aio.Channel, front: psutil.Process, rows: int) -> tuple[float, float]:
    """Seconds on the clock and of a core."""
    stub: Any = pb_grpc.RefinementServiceStub(channel)  # type: ignore[no-untyped-call]
    items = [
        pb.RefineItem(item_id=f"row-{number}", context=TEXT * 2, initial_output=TEXT, feedback=TEXT[:60])
        for number in range(BATCH_ROWS)
    ]
    batch = pb.BatchRefineRequest(model="base", items=items)
    left = iter(range(rows // BATCH_ROWS))

    async def caller() -> None:
        for _ in left:
            answered = [len(one.outcomes) async for one in stub.BatchRefine(batch, timeout=300)]
            assert sum(answered) == BATCH_ROWS

    begin, before = time.monotonic(), _used(front)
    await asyncio.gather(*(caller() for _ in range(BATCHES_AT_ONCE)))
    return time.monotonic() - begin, _used(front) - before


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


async def main(workers: Sequence[int], rows: int, recorded: bool) -> int:
    """Answers the exit code."""
    table = [await measure(count, rows) for count in workers]
    print_table(table)
    if recorded:
        record("front", table, packages=("grpcio", "protobuf"))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 10, 100, 500])
    parser.add_argument("--rows", type=int, default=20_480)
    parser.add_argument("--no-record", action="store_true")
    parser.add_argument("--front", type=int, nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.front:
        asyncio.run(run_front(*arguments.front))
    else:
        sys.exit(asyncio.run(main(arguments.workers, arguments.rows, not arguments.no_record)))
