"""Helpers of the tests: a real server with the real interceptor, in this process."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import grpc

from ilf_common.rpc.client import ChannelSettings, open_channel
from ilf_common.rpc.interceptor import CallInterceptor
from ilf_common.rpc.server import bind, new_server
from ilf_common.settings import ServerSettings


@asynccontextmanager
async def running_server(
    register: Callable[[grpc.aio.Server], Sequence[str]], *, component: str = "test"
) -> AsyncIterator[str]:
    """Address of a server on a free port, with the interceptor that every service has."""
    settings = ServerSettings(port=0)
    server = new_server(settings, CallInterceptor(component))
    register(server)
    port = bind(server, settings)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def running_channel(
    register: Callable[[grpc.aio.Server], Sequence[str]], *, component: str = "test"
) -> AsyncIterator[grpc.aio.Channel]:
    """A channel, opened as the services open theirs, to such a server."""
    async with (
        running_server(register, component=component) as address,
        open_channel(ChannelSettings(address=address)) as channel,
    ):
        yield channel


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
