"""The orchestrator's own tables, on SQLite or PostgreSQL."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa

from ilf_common.errors import FailedPreconditionError, UnavailableError

log = logging.getLogger("ilf.orchestrator")

ResultT = TypeVar("ResultT")

_NOT_YET = ("starting up", "shutting down", "in recovery", "not yet accepting")
"""What a PostgreSQL server says that soon takes connections; its code for it does not reach the driver's errors."""

METADATA = sa.MetaData()

RUNS = sa.Table(
    "orchestrator_runs",
    METADATA,
    sa.Column("id", sa.String(63), primary_key=True),
    sa.Column("request_id", sa.String(200), nullable=False, unique=True),
    sa.Column("request_digest", sa.String(64), nullable=False),
    sa.Column("create_time", sa.String(40), nullable=False),
    sa.Column("document", sa.Text, nullable=False),
)

TASKS = sa.Table(
    "orchestrator_tasks",
    METADATA,
    sa.Column("kind", sa.String(20), primary_key=True),
    sa.Column("run_id", sa.String(63), primary_key=True),
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("task_group", sa.String(40), nullable=False),
    sa.Column("iteration", sa.Integer, nullable=False),
    sa.Column("shard", sa.Integer, nullable=False),
    sa.Column("item_id", sa.Text, nullable=False),
    sa.Column("context", sa.Text, nullable=False),
    sa.Column("text_a", sa.Text, nullable=False),
    sa.Column("text_b", sa.Text, nullable=False),
    sa.Column("state", sa.String(30), nullable=False),
    sa.Column("annotator", sa.String(128), nullable=False),
    # Seconds since 1970: SQLite keeps no time zones.
    sa.Column("lease_expires", sa.Float, nullable=True),
    sa.Column("answer", sa.Text, nullable=False),
    sa.Column("closed", sa.Boolean, nullable=False),
    # Later than the table: each needs a default for the rows of databases that were there before.
    sa.Column("feedback", sa.Text, nullable=False, server_default=""),
    sa.Column("candidate_a", sa.Integer, nullable=False, server_default="-1"),
    sa.Column("candidate_b", sa.Integer, nullable=False, server_default="-1"),
    sa.Column("lease_seconds", sa.Float, nullable=False, server_default="900"),
    # Seconds since 1970; 0 while there is no answer, and where nobody wrote down when it was given.
    sa.Column("answered", sa.Float, nullable=False, server_default="0"),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    # These two: words with spaces between them.
    sa.Column("flags", sa.Text, nullable=False, server_default=""),
    sa.Column("requests", sa.Text, nullable=False, server_default=""),
    sa.Index("orchestrator_tasks_open", "kind", "closed", "state", "run_id", "id"),
    sa.Index("orchestrator_tasks_shard", "kind", "run_id", "iteration", "shard"),
    sa.Index("orchestrator_tasks_annotator", "annotator", "kind", "run_id", "task_group"),
    sa.Index("orchestrator_tasks_answered", "annotator", "state", "answered"),
)

SKIPS = sa.Table(
    "orchestrator_task_skips",
    METADATA,
    sa.Column("kind", sa.String(20), primary_key=True),
    sa.Column("run_id", sa.String(63), primary_key=True),
    sa.Column("task_group", sa.String(40), primary_key=True),
    sa.Column("annotator", sa.String(128), primary_key=True),
)


async def in_thread(function: Callable[..., ResultT], *arguments: object) -> ResultT:
    """Runs a function that uses the database in a thread.

    Raises:
        UnavailableError: DATABASE_UNAVAILABLE; the database cannot be reached, is locked, or has gone away.
    """
    with answering():
        return await asyncio.to_thread(function, *arguments)


@contextmanager
def answering() -> Iterator[None]:
    """Says in this project's words that the database does not answer.

    Raises:
        UnavailableError: DATABASE_UNAVAILABLE.
    """
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InterfaceError) as error:
        raise UnavailableError("The orchestrator's database does not answer.", reason="DATABASE_UNAVAILABLE") from error


def open_database(url: str) -> sa.Engine:
    """An engine; it connects when it is first used.

    Args:
        url: `sqlite:///path` or `postgresql+psycopg://…`.
    """
    engine = sa.create_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _tune_sqlite)
    return engine


async def prepare_database(engine: sa.Engine, seconds: float, *, pause: float = 1.0) -> None:
    """Puts the tables in place, after a wait for a PostgreSQL server that starts later than this process.

    Args:
        engine: From `open_database`.
        seconds: How long to wait at most.
        pause: Between two attempts.

    Raises:
        UnavailableError: DATABASE_UNAVAILABLE; it was not there in time.
        FailedPreconditionError: DATABASE_REFUSED; it is there, but not with this user, password or name.
    """
    began, told = time.monotonic(), ""
    while (fault := await asyncio.to_thread(_make_tables, engine)) is not None:
        waited = time.monotonic() - began
        if not _may_come(engine, fault):
            raise FailedPreconditionError(
                f"The database refuses: {fault}. Mend database_url, or what it names.", reason="DATABASE_REFUSED"
            )
        if waited >= seconds:
            raise UnavailableError(
                f"The database is not there after {waited:.0f} s (database_seconds): {fault}. Start it, or mend "
                "database_url.",
                reason="DATABASE_UNAVAILABLE",
            )
        if fault != told:
            log.warning("waiting for the database: %s", fault)
            told = fault
        await asyncio.sleep(pause)
    if told:
        log.info("the database is there, after %.0f s", time.monotonic() - began)


def _make_tables(engine: sa.Engine) -> str | None:
    """The driver's words where it cannot connect."""
    try:
        METADATA.create_all(engine)
        _add_what_is_newer(engine)
    except sa.exc.OperationalError as error:
        return " ".join(str(error.orig).split())
    return None


def _add_what_is_newer(engine: sa.Engine) -> None:
    """Adds the columns and indexes that tables of an earlier release lack."""
    for table in METADATA.sorted_tables:
        there = {column["name"] for column in sa.inspect(engine).get_columns(table.name)}
        with engine.begin() as connection:
            for column in table.columns:
                if column.name not in there:
                    definition = sa.schema.CreateColumn(column).compile(dialect=engine.dialect)
                    connection.execute(sa.text(f"ALTER TABLE {table.name} ADD COLUMN {definition}"))
            for index in table.indexes:
                index.create(connection, checkfirst=True)


def _may_come(engine: sa.Engine, fault: str) -> bool:
    """Whether time may mend it: nobody answers there, or a server that says itself that it is not ready."""
    is_refusal = "FATAL" in fault and not any(words in fault for words in _NOT_YET)
    return engine.dialect.name == "postgresql" and not is_refusal


def _tune_sqlite(connection: Any, _record: Any) -> None:
    """Readers beside one writer, and patience with the workflow engine's writes to the same file."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA busy_timeout=30000")
