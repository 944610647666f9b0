"""What `ilf up` writes down for the commands that come after it."""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from ilf_client.endpoints import Endpoints
from ilf_client.files import locked
from ilf_client.stack.console import ConsolePlace
from ilf_client.stack.processes import ProcessRecord

DEFAULT_STATE_DIR = ".ilf"
_FILE = "stack.json"


@dataclass(frozen=True)
class StackState:
    """What `ilf up` started: processes, addresses and the store of the services; where the console is, if it runs."""

    processes: dict[str, ProcessRecord]
    endpoints: Endpoints
    store_root: str
    console: ConsolePlace | None = None

    @property
    def alive(self) -> list[str]:
        """Services, and the console, whose process still runs."""
        return [service for service, process in self.processes.items() if process.is_alive]


def state_dir() -> Path:
    """`ILF_STATE_DIR`, or `.ilf` in the working directory."""
    return Path(os.environ.get("ILF_STATE_DIR") or DEFAULT_STATE_DIR)


def read_state(folder: Path) -> StackState | None:
    """The last state, or None where nothing was started or the file is no longer understood."""
    try:
        data = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        return StackState(
            {service: ProcessRecord(**record) for service, record in data["processes"].items()},
            Endpoints(**data["endpoints"]),
            data["store_root"],
            ConsolePlace(**data["console"]) if data.get("console") else None,
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_state(folder: Path, state: StackState) -> None:
    """Replaces the state whole."""
    aside = folder / f".{_FILE}.{os.getpid()}"
    aside.write_text(json.dumps(asdict(state), indent=2), encoding="utf-8")
    aside.replace(folder / _FILE)


def forget_state(folder: Path) -> None:
    """Nothing runs any more."""
    (folder / _FILE).unlink(missing_ok=True)


def exclusive(folder: Path) -> AbstractContextManager[None]:
    """Keeps a second `ilf up` or `ilf down` on the same state directory out.

    Raises:
        FailedPreconditionError: reason STACK_BUSY; another one is at work.
    """
    return locked(folder / "stack.lock", f"Another `ilf up` or `ilf down` is at work in {folder}.", "STACK_BUSY")
