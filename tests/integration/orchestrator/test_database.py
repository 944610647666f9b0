"""An orchestrator that starts before its PostgreSQL server finds it later."""

from __future__ import annotations

import asyncio

import sqlalchemy as sa

from services.orchestrator.adapters.database import open_database, prepare_database
from tests.integration.orchestrator.databases import postgresql
from tests.support import free_ports


async def test_a_server_that_starts_later_gets_its_tables() -> None:
    [port] = free_ports(1)
    engine = open_database(f"postgresql+psycopg://ilf@127.0.0.1:{port}/postgres")
    preparing = asyncio.create_task(prepare_database(engine, 60, pause=0.05))
    await asyncio.wait({preparing}, timeout=0.3)
    assert not preparing.done()
    with postgresql(port):
        await preparing
        assert "orchestrator_runs" in sa.inspect(engine).get_table_names()
        engine.dispose()
