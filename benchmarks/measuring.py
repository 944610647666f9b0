"""What benchmarks read of the clock and of processes."""

from __future__ import annotations

import math
import os
import time
from asyncio.subprocess import Process
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TypeVar

ResultT = TypeVar("ResultT")


async def timed(call: Awaitable[ResultT]) -> tuple[ResultT, float]:
    """What the call answers, and how many seconds it took."""
    begin = time.perf_counter()
    result = await call
    return result, time.perf_counter() - begin


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of the values does not exceed."""
    return sorted(values)[math.ceil(len(values) * share) - 1]


def peak_mib(process: Process | None) -> float:
    """Peak resident memory of a running process (`VmHWM`)."""
    lines = _facts(process, "status").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def processor_seconds(process: Process | None) -> float:
    """What a running process has used so far, on all cores."""
    fields = _facts(process, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _facts(process: Process | None, name: str) -> str:
    if process is None or process.returncode is not None:
        raise RuntimeError("the process is not running")
    return Path(f"/proc/{process.pid}/{name}").read_text(encoding="utf-8", errors="replace")
