"""One live process per database: two would both continue the same workflows and do their steps twice."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import IO

import sqlalchemy as sa

from ilf_common.errors import FailedPreconditionError

_LOCK = 0x696C66_6F7263
"""Number of the advisory lock, within the database: "ilf", "orc"."""


class Fence:
    """Held from `take` until `release` or the death of the process.

    A lock on a file of the state directory; with PostgreSQL an advisory lock of the database as well, because there
    the processes may run on different machines.
    """

    def __init__(self, state_dir: Path, engine: sa.Engine) -> None:
        self._path = state_dir / "orchestrator.lock"
        self._engine = engine
        self._file: IO[str] | None = None
        self._connection: sa.Connection | None = None

    def take(self) -> None:
        """Takes the fence.

        Raises:
            FailedPreconditionError: EXECUTOR_TAKEN; another live process has it.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise self._taken(f"process {holder} holds {self._path}") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file
        if self._engine.dialect.name == "postgresql":
            self._take_in_database()

    def _take_in_database(self) -> None:
        connection = self._engine.connect()
        if not connection.execute(sa.select(sa.func.pg_try_advisory_lock(_LOCK))).scalar():
            connection.close()
            self.release()
            raise self._taken("another session of the database holds its lock")
        # The lock belongs to the session; ending the transaction keeps the connection from idling inside one.
        connection.commit()
        self._connection = connection

    def _taken(self, how: str) -> FailedPreconditionError:
        return FailedPreconditionError(
            f"Another orchestrator is alive: {how}. Stop it first, or give this one its own state_dir and database.",
            reason="EXECUTOR_TAKEN",
        )

    def release(self) -> None:
        """Gives the fence back."""
        if self._connection is not None:
            # Closing alone would put the session, with its lock, back into the pool.
            self._connection.invalidate()
            self._connection.close()
            self._connection = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Fence:
        self.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
