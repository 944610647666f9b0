"""How each trainer process of a pod ended, for the launcher beside them: torchrun itself always ends with 1."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.finetune.trainer.outcome import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PEER_LOST, replace_file

EXITS_VARIABLE = "ILF_TRAINER_EXITS"
"""Environment variable with the folder of the files."""


@dataclass(frozen=True)
class ProcessExit:
    """One trainer process; `code` is None while it runs, and when it was killed."""

    pid: int
    code: int | None


@dataclass
class ExitCode:
    """What a trainer is about to end with; an exception leaves it at 1."""

    value: int = 1


@contextmanager
def recorded() -> Iterator[ExitCode]:
    """Writes down that this process has begun, and then how it ended, where a launcher wants to know."""
    folder = os.environ.get(EXITS_VARIABLE)
    code = ExitCode()
    if not folder:
        yield code
        return
    path = Path(folder) / os.environ.get("LOCAL_RANK", "0")
    _write(path, ProcessExit(os.getpid(), None))
    try:
        yield code
    finally:
        _write(path, ProcessExit(os.getpid(), code.value))


def read_exits(folder: Path) -> list[ProcessExit]:
    """All trainer processes that have begun."""
    return [ProcessExit(**json.loads(path.read_bytes())) for path in sorted(folder.iterdir()) if path.name.isdigit()]


def verdict(launched: int, exits: Sequence[ProcessExit]) -> int:
    """What a pod's exit code should be.

    A reason ends the job; a fault of a process counts as an attempt; an interruption and a lost peer do not, and
    neither does a rendezvous that no process got past.

    Args:
        launched: Exit code of what was launched; negative for a signal.
        exits: Its trainer processes.
    """
    if launched == 0:
        return 0
    codes = [one.code for one in exits]
    if EXIT_FAILED in codes:
        return EXIT_FAILED
    if 1 in codes:
        return 1
    for code in (EXIT_INTERRUPTED, EXIT_PEER_LOST):
        if code in codes:
            return code
    if None in codes:
        # Killed, most often for want of memory.
        return 137
    return launched if launched > 1 and not exits else EXIT_PEER_LOST


def _write(path: Path, process: ProcessExit) -> None:
    replace_file(path, json.dumps({"pid": process.pid, "code": process.code}).encode(), durable=False)
