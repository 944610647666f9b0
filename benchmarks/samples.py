"""The sample browser over a run of a million rows: pages sorted and filtered, through gRPC, and memory meanwhile.

`python -m benchmarks.samples` writes a finished run of synthetic shards (`benchmarks/sample_shards.py`: contexts of 400
characters, five refinements, five judges), starts the orchestrator as a process of its own and asks it for pages of
50 samples. A smaller run comes first: memory that does not grow with the rows shows there. The first filtered page
makes the index of the iteration and is reported apart; every other figure is the median of some calls. There is no
alternative beside it: the limits are what people wait for without a spinner. The processor's time is the
orchestrator's own on all cores, which says more than the clock where other programs run too; memory is its peak
(`VmHWM`). Exit code 1 when a limit is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb
from ilf.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceStub

from benchmarks.measuring import peak_mib, processor_seconds
from benchmarks.recording import print_table, record
from benchmarks.sample_shards import RARE_WORD, RUN, make_run
from tests.crash.orchestrator.support import Cluster

PAGE_LIMIT = 0.5
FILTER_LIMIT = 2.0
PAGE = 50

# What is asked for, its limit in seconds, and the fields of the request.
QUESTIONS: tuple[tuple[str, float, dict[str, Any]], ...] = (
    ("first page, as in the dataset", PAGE_LIMIT, {}),
    ("first page, highest scores", PAGE_LIMIT, {"order_by": pb.SAMPLE_ORDER_SCORE, "descending": True}),
    ("first page, most disagreement", PAGE_LIMIT, {"order_by": pb.SAMPLE_ORDER_SPREAD, "descending": True}),
    ("filter: score 0.5 to 0.6", FILTER_LIMIT, {"filter": pb.SampleFilter(min_score=0.5, max_score=0.6)}),
    (
        "filter: length 100 to 200, by missing mass",
        FILTER_LIMIT,
        {"filter": pb.SampleFilter(min_length=100, max_length=200), "order_by": pb.SAMPLE_ORDER_MISSING_MASS},
    ),
    ("filter: failed", FILTER_LIMIT, {"filter": pb.SampleFilter(failed=True)}),
    ("filter: a rare word", FILTER_LIMIT, {"filter": pb.SampleFilter(text=RARE_WORD)}),
    ("filter: two letters that are everywhere", FILTER_LIMIT, {"filter": pb.SampleFilter(text="AB")}),
    (
        "filter: text and score, by spread",
        FILTER_LIMIT,
        {"filter": pb.SampleFilter(text="ab c", min_score=0.7), "order_by": pb.SAMPLE_ORDER_SPREAD},
    ),
)


@dataclass(frozen=True)
class Answer:
    """One call: seconds that it took, seconds that the orchestrator's processors worked, and rows found."""

    seconds: float
    processor: float
    total: int


async def ask(stub: Any, cluster: Cluster, fields: dict[str, Any]) -> Answer:
    """Asks for one page."""
    request = pb.ListSamplesRequest(parent=f"runs/{RUN}", iteration=1, page_size=PAGE, **fields)
    begin, worked = time.monotonic(), processor_seconds(cluster.orchestrator)
    answer = await stub.ListSamples(request)
    return Answer(time.monotonic() - begin, processor_seconds(cluster.orchestrator) - worked, answer.total_size)


async def make_index(stub: Any, cluster: Cluster) -> Answer:
    """Asks until the iteration is indexed."""
    begin, worked = time.monotonic(), processor_seconds(cluster.orchestrator)
    while True:
        try:
            answer = await ask(stub, cluster, {"filter": pb.SampleFilter(failed=False)})
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        else:
            return Answer(time.monotonic() - begin, processor_seconds(cluster.orchestrator) - worked, answer.total)


async def measure(folder: Path, repeats: int) -> list[dict[str, Any]]:
    """One row a question."""
    cluster = Cluster(folder, delay=0.0)
    try:
        await cluster.start_orchestrator()
        await cluster.call("GetRun", pb.GetRunRequest(name=f"runs/{RUN}"))
        table = [_row("(the orchestrator, started)", [], cluster)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{cluster.port}") as channel:
            stub = OrchestratorServiceStub(channel)
            table.append(_row("index made, once an iteration", [await make_index(stub, cluster)], cluster))
            print(table[-1], flush=True)
            for name, limit, fields in QUESTIONS:
                answers = [await ask(stub, cluster, fields) for _ in range(repeats)]
                table.append({**_row(name, answers, cluster), "limit, s": limit})
                print(table[-1], flush=True)
        return table
    finally:
        await cluster.stop()


def _row(name: str, answers: list[Answer], cluster: Cluster) -> dict[str, Any]:
    return {
        "what": name,
        "rows found": answers[0].total if answers else "",
        "median, s": round(statistics.median(one.seconds for one in answers), 3) if answers else "",
        "slowest, s": round(max(one.seconds for one in answers), 3) if answers else "",
        "processor, s": round(statistics.median(one.processor for one in answers), 2) if answers else "",
        "limit, s": "",
        "peak MiB": round(peak_mib(cluster.orchestrator)),
    }


async def main() -> int:
    """Makes a run, measures it and records the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[250_000, 1_000_000])
    parser.add_argument("--shard-rows", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keeps the runs here, and takes those that are here")
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    table: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for rows in options.rows:
            folder = (options.folder or Path(name)) / str(rows)
            folder.mkdir(parents=True, exist_ok=True)
            await make_run(folder, rows, options.shard_rows)
            table += [{"rows": rows, **row} for row in await measure(folder, options.repeats)]
    print_table(table)
    if not options.no_record:
        record("samples", table, packages=("duckdb", "grpcio", "pyarrow"))
    return 0 if all(row["median, s"] <= row["limit, s"] for row in table if row["limit, s"]) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
