"""A hundred annotators at once: how long a lease and a submit take, with few tasks and with a hundred thousand.

`python -m benchmarks.annotators` starts the orchestrator on SQLite as a process of its own, with a run that waits for
the feedback of people. Every annotator has a connection and takes tasks and answers them without a pause: in truth
people think between two answers, so this is the worst case. The clients share the processor with the orchestrator.
Beside it stands what the disk alone takes: a write of one page and its fsync, of which each lease and each submit needs
one. Exit code 1 when the 95th percentile of submit is over the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from benchmarks.measuring import peak_mib, quantile, timed
from benchmarks.orchestrator import write_rows
from benchmarks.recording import print_table, record
from ilf_client import AsyncClient, Endpoints
from tests.crash.orchestrator.support import Cluster

LIMIT_SECONDS = 0.5
RUN = "asked"
PAGE = b"\0" * 4096
WRITES = 200
FEEDBACK = "Say what the reader does not know yet, and leave out the rest. " * 4


def fsync_milliseconds(folder: Path) -> float:
    """The median of one page's write and its fsync, on the disk of the database."""
    taken = []
    with (folder / "fsync").open("wb", buffering=0) as stream:
        for _ in range(WRITES):
            begin = time.perf_counter()
            stream.write(PAGE)
            os.fsync(stream.fileno())
            taken.append(1000 * (time.perf_counter() - begin))
    return quantile(taken, 0.5)


async def ask(cluster: Cluster, tasks: int, annotators_per_item: int) -> float:
    """Creates a run and waits until people are asked; answers how many seconds the tasks took."""
    write_rows(cluster.store / "data" / "train.jsonl", tasks // annotators_per_item)
    spec = {
        "dataset": {"train_uri": "data/train.jsonl"},
        "policy": "base",
        "generate": {"source": "SOURCE_COLUMN", "template": {"text": "{context}"}},
        "feedback": {"source": "SOURCE_PEOPLE", "annotators_per_item": annotators_per_item},
        "refine": {"refiner": "refiner"},
        "evaluate": {"disabled": True},
        "people": {"guidelines": "Say what is wrong, kindly. " * 40},
    }
    begin = time.monotonic()
    await cluster.create(spec, RUN)
    async with AsyncClient(Endpoints(orchestrator=f"127.0.0.1:{cluster.port}")) as client, asyncio.timeout(1800):
        while (waiting := (await client.runs.get(RUN)).waiting) is None or waiting.reason != "PEOPLE":
            await asyncio.sleep(0.2)
    return time.monotonic() - begin


async def annotate(client: AsyncClient, annotator: str, answers: int) -> tuple[list[float], list[float]]:
    """Seconds of each lease and of each submit of one annotator."""
    leases, submits = [], []
    for _ in range(answers):
        leased, seconds = await timed(client.feedback.lease(annotator, run=RUN, timeout=60))
        leases.append(seconds)
        [task] = leased.tasks
        _, seconds = await timed(client.feedback.submit(task.name, annotator, FEEDBACK, timeout=60))
        submits.append(seconds)
    return leases, submits


async def measure(tasks: int, annotators: int, answers: int, annotators_per_item: int) -> dict[str, Any]:
    """One row: all annotators at once on so many tasks."""
    with tempfile.TemporaryDirectory() as name:
        cluster = Cluster(Path(name), delay=0.0, limits={})
        try:
            await cluster.start_peers()
            await cluster.start_orchestrator()
            asked = await ask(cluster, tasks, annotators_per_item)
            async with AsyncExitStack() as stack:
                endpoints = Endpoints(orchestrator=f"127.0.0.1:{cluster.port}")
                clients = [await stack.enter_async_context(AsyncClient(endpoints)) for _ in range(annotators)]
                await asyncio.gather(*(client.answers.progress(run=RUN) for client in clients))
                begin = time.perf_counter()
                taken = await asyncio.gather(
                    *(annotate(client, f"annotator-{number}", answers) for number, client in enumerate(clients))
                )
                seconds = time.perf_counter() - begin
            leases, submits = ([one for person in taken for one in person[side]] for side in (0, 1))
            return {
                "tasks": tasks,
                "per item": annotators_per_item,
                "annotators": annotators,
                "answers/s": round(len(submits) / seconds),
                **{f"submit p{100 * share:.0f} ms": round(1000 * quantile(submits, share)) for share in (0.5, 0.95)},
                **{f"lease p{100 * share:.0f} ms": round(1000 * quantile(leases, share)) for share in (0.5, 0.95)},
                "fsync ms": round(fsync_milliseconds(Path(name)), 2),
                "tasks made in s": round(asked, 1),
                "peak MiB": round(peak_mib(cluster.orchestrator)),
            }
        finally:
            await cluster.stop()


async def main() -> int:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, nargs="+", default=[4_000, 100_000])
    parser.add_argument("--annotators", type=int, default=100)
    parser.add_argument("--answers", type=int, default=20, help="of each annotator")
    parser.add_argument("--per-item", type=int, nargs="+", default=[1, 2], help="annotators of each item")
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    rows = []
    for tasks in options.tasks:
        for per_item in options.per_item:
            rows.append(await measure(tasks, options.annotators, options.answers, per_item))
            print(rows[-1], flush=True)
    print_table(rows)
    if not options.no_record:
        record("annotators", rows, packages=("grpcio", "sqlalchemy"))
    return 0 if max(row["submit p95 ms"] for row in rows) <= 1000 * LIMIT_SECONDS else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
