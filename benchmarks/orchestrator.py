"""The orchestrator with instant engines over real gRPC: rows/s through refine, rank and select, and memory by rows.

`python -m benchmarks.orchestrator` starts the stand-in peers and the orchestrator as processes of their own and takes
one run over a dataset with columns for the initial output and the feedback through generate, feedback, refine, rank
and select. Rates come from the stages' own times, memory from the orchestrator's process (`VmHWM`, its peak). Exit
code 1 when the rate is under the limit or memory grows with the rows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from ilf.orchestrator.v1 import orchestrator_service_pb2 as pb

from benchmarks.measuring import peak_mib
from benchmarks.recording import print_table, record
from tests.crash.orchestrator.support import Cluster

RATE_LIMIT = 2000.0
MEMORY_LIMIT = 1.1
STAGES = ("refine", "rank", "select")


@dataclass(frozen=True)
class Measured:
    """One run.

    Attributes:
        rows_per_second: From the begin of refine to the end of select.
        peak_mib: Peak resident memory of the orchestrator.
    """

    rows: int
    rows_per_second: float
    seconds: float
    peak_mib: float


def write_rows(path: Path, rows: int) -> None:
    """Rows of about 600 characters, with initial output and feedback."""
    path.parent.mkdir(parents=True, exist_ok=True)
    words = " ".join(f"word{n % 97}" for n in range(60))
    with path.open("w", encoding="utf-8") as stream:
        for number in range(rows):
            row = {
                "id": f"row-number-{number}",
                "context": f"Context {number}: {words}",
                "initial_output": f"Output {number}: {words[:120]}",
                "feedback": "Leave out what the reader knows already.",
            }
            stream.write(json.dumps(row) + "\n")


async def measure(rows: int, shard_rows: int, judges: int) -> Measured:
    """Runs all processes anew over so many rows."""
    with tempfile.TemporaryDirectory() as name:
        cluster = Cluster(Path(name), delay=0.0, judges=judges, limits={})
        try:
            await cluster.start_peers()
            await cluster.start_orchestrator()
            write_rows(cluster.store / "data" / "train.jsonl", rows)
            spec = {
                "dataset": {"train_uri": "data/train.jsonl"},
                "shard_rows": shard_rows,
                "policy": "base",
                "generate": {"source": "SOURCE_COLUMN", "template": {"text": "{context}"}},
                "feedback": {"source": "SOURCE_COLUMN"},
                "refine": {"refiner": "refiner", "sampling": {"n": 5}},
                "evaluate": {"disabled": True},
            }
            begin = time.monotonic()
            await cluster.create(spec, "bench")
            run = await cluster.end("bench", seconds=3600)
            if run.state != pb.RUN_STATE_SUCCEEDED:
                raise RuntimeError(f"the run failed: {run.error.message}")
            stages = {stage.stage: stage for stage in run.iterations[0].stages}
            first = min(stages[stage].start_time.ToNanoseconds() for stage in STAGES)
            last = max(stages[stage].end_time.ToNanoseconds() for stage in STAGES)
            return Measured(
                rows, rows / ((last - first) / 1e9), time.monotonic() - begin, peak_mib(cluster.orchestrator)
            )
        finally:
            await cluster.stop()


async def main() -> int:
    """Measures a small and a large run and records both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[30_000, 300_000])
    parser.add_argument("--shard-rows", type=int, default=256)
    parser.add_argument("--judges", type=int, default=1, help="judge scores per candidate")
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    results = []
    for rows in options.rows:
        results.append(await measure(rows, options.shard_rows, options.judges))
        print(results[-1], flush=True)
    table = [
        {
            "rows": one.rows,
            "rows/s, refine to select": round(one.rows_per_second),
            "seconds, whole run": round(one.seconds),
            "peak MiB": round(one.peak_mib),
        }
        for one in results
    ]
    print_table(table)
    if not options.no_record:
        record("orchestrator", table, packages=("grpcio", "pyarrow", "dbos"))
    growth = results[-1].peak_mib / results[0].peak_mib
    print(f"memory of the largest run over that of the smallest: {growth:.3f}")
    return 0 if growth <= MEMORY_LIMIT and min(one.rows_per_second for one in results) >= RATE_LIMIT else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
