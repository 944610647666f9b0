"""Start-up of the SDK and the command, each measured as a whole process.

`python benchmarks/import_time.py [--runs 9] [--no-record]`; exit code 1 when a limit is broken.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.recording import print_table, record


@dataclass(frozen=True)
class Case:
    """What is started, and the most seconds that its median may take; None is measured for comparison only."""

    name: str
    command: tuple[str, ...]
    limit: float | None = None


def python(code: str) -> tuple[str, ...]:
    """The command that runs a line of Python."""
    return (sys.executable, "-c", code)


CASES = (
    Case("python alone", python("pass")),
    Case("import ilf_client", python("import ilf_client"), limit=0.4),
    Case("import ilf_client and use the Client class", python("import ilf_client; ilf_client.Client")),
    Case("ilf --help", (str(Path(sys.executable).parent / "ilf"), "--help"), limit=0.6),
)


def seconds(command: tuple[str, ...]) -> float:
    """Wall time of one process, from its start to its end."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def measure(case: Case, runs: int) -> dict[str, object]:
    """One row; a first run that fills the file caches does not count."""
    seconds(case.command)
    times = [seconds(case.command) for _ in range(runs)]
    median = statistics.median(times)
    return {
        "what": case.name,
        "median s": round(median, 3),
        "fastest s": round(min(times), 3),
        "slowest s": round(max(times), 3),
        "limit s": case.limit if case.limit is not None else "",
        "holds": "" if case.limit is None else "yes" if median < case.limit else "NO",
    }


def main() -> int:
    """Measures, prints and, if asked to, records; answers the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9, help="processes per case; the median counts")
    parser.add_argument("--no-record", action="store_true", help="print only; leave benchmarks/results as it is")
    arguments = parser.parse_args()
    rows = [measure(case, arguments.runs) for case in CASES]
    print_table(rows)
    if not arguments.no_record:
        record("import_time", rows, packages=("grpcio", "protobuf", "pydantic", "click"))
    return 1 if any(row["holds"] == "NO" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
