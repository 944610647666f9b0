"""Processes that outlive the command that started them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class ProcessRecord:
    """A process, told apart from a later one with the same id by its start time."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> ProcessRecord:
        """The process that has this id now."""
        return cls(pid, _start_time(pid) or "")

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; a dead one that nobody has waited for does not count."""
        return _start_time(self.pid) == self.started


def stop_processes(records: Iterable[ProcessRecord], seconds: float) -> list[ProcessRecord]:
    """Asks processes to end, waits for their drain, and kills what is left with its whole session.

    Returns:
        Those that had to be killed.
    """
    alive = [record for record in records if record.is_alive]
    for record in alive:
        _signal(record.pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while any(record.is_alive for record in alive) and time.monotonic() < deadline:
        _reap(alive)
        time.sleep(_POLL_SECONDS)
    killed = [record for record in alive if record.is_alive]
    for record in killed:
        _kill_session(record.pid)
    return killed


def _start_time(pid: int) -> str | None:
    """Clock ticks from boot to the start of a living process (proc(5)); where there is no /proc, whether it exists."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return "" if not Path("/proc/self").exists() and _exists(pid) else None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] == "Z" else fields[19]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _reap(records: Iterable[ProcessRecord]) -> None:
    """Takes the exit status of those that are our own children, so that they do not stay as zombies."""
    for record in records:
        try:
            os.waitpid(record.pid, os.WNOHANG)
        except ChildProcessError:
            continue


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _kill_session(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        _signal(pid, signal.SIGKILL)
