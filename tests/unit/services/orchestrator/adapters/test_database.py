"""A start waits for a PostgreSQL server that is not there yet, and for nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator

import pytest
import sqlalchemy as sa

from ilf_common.errors import FailedPreconditionError, UnavailableError
from services.orchestrator.adapters.database import open_database, prepare_database
from tests.support import free_ports

STARTING = ("57P03", "the database system is starting up")
WRONG_PASSWORD = ("28P01", 'password authentication failed for user "ilf"')


def engine_at(port: int) -> sa.Engine:
    return open_database(f"postgresql+psycopg://ilf:secret@127.0.0.1:{port}/ilf?sslmode=disable&gssencmode=disable")


@contextlib.asynccontextmanager
async def refusing(answers: Iterator[tuple[str, str]]) -> AsyncIterator[int]:
    """Port of a server that takes connections and refuses them, each with the next answer."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(4))
        await reader.readexactly(length - 4)
        code, message = next(answers)
        body = b"".join(field.encode() + b"\0" for field in ("SFATAL", "VFATAL", f"C{code}", f"M{message}", ""))
        writer.write(b"E" + (len(body) + 4).to_bytes(4) + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_the_wait_ends_and_says_where_nothing_was() -> None:
    [port] = free_ports(1)
    with pytest.raises(
        UnavailableError, match=f"127.0.0.1.*port {port} failed: Connection refused.*database_url"
    ) as caught:
        await prepare_database(engine_at(port), 0)
    assert caught.value.reason == "DATABASE_UNAVAILABLE"
    assert "secret" not in caught.value.message


async def test_a_starting_server_is_waited_for_and_a_wrong_password_is_not(caplog: pytest.LogCaptureFixture) -> None:
    def answers() -> Iterator[tuple[str, str]]:
        yield from [STARTING] * 3
        while True:
            yield WRONG_PASSWORD

    async with refusing(answers()) as port:
        with (
            caplog.at_level(logging.INFO, "ilf.orchestrator"),
            pytest.raises(FailedPreconditionError, match="password authentication failed") as caught,
        ):
            await prepare_database(engine_at(port), 30, pause=0.01)
    assert caught.value.reason == "DATABASE_REFUSED"
    [waiting] = [record.message for record in caplog.records]
    assert waiting.startswith("waiting for the database") and waiting.endswith(STARTING[1])
