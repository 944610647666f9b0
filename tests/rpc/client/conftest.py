from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from ilf_client import AsyncClient, Client, Endpoints, RetryPolicy
from tests.fakes.ilf_server import FakeServices
from tests.support import running_server

FAST = RetryPolicy(max_attempts=3, initial_backoff=0.01, max_backoff=0.02)


@pytest.fixture
def services() -> FakeServices:
    return FakeServices()


@pytest.fixture
async def client(services: FakeServices) -> AsyncIterator[AsyncClient]:
    async with (
        running_server(services.register) as address,
        AsyncClient(Endpoints.at(address), retry=FAST) as client,
    ):
        yield client


@pytest.fixture
def server_address(services: FakeServices) -> Iterator[str]:
    """The fake services on a loop of their own, for callers that block."""
    address: list[str] = []
    started, stopping = threading.Event(), threading.Event()

    async def serve() -> None:
        async with running_server(services.register) as bound:
            address.append(bound)
            started.set()
            await asyncio.to_thread(stopping.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(10)
    yield address[0]
    stopping.set()
    thread.join(10)


@pytest.fixture
def blocking_client(server_address: str) -> Iterator[Client]:
    with Client(Endpoints.at(server_address), retry=FAST) as client:
        yield client
