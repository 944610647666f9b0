"""Builds the console and runs it."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys

import uvicorn

from ilf_client import AsyncClient, Timeouts
from ilf_common.errors import FailedPreconditionError
from ilf_common.rpc.client import RetryPolicy
from ilf_common.telemetry import configure_telemetry, flush_telemetry, metrics_page
from services.console.accounts import accounts_of
from services.console.app import build_app
from services.console.settings import ConsoleSettings, HttpSettings

log = logging.getLogger("ilf.server")

# A person waits: a service that is down is named at once, and the page tries again by itself.
_RETRY = RetryPolicy(max_attempts=3)


def run(settings: ConsoleSettings) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        FailedPreconditionError: The port is taken (PORT_IN_USE), or a file with a key, token or secret cannot be used.
    """
    configure_telemetry("console", settings.telemetry)
    try:
        with listen(settings.server) as listener:
            asyncio.run(_serve(_bound(settings, listener), listener))
    finally:
        flush_telemetry()
    log.info("stopped")


def open_client(settings: ConsoleSettings) -> AsyncClient:
    """The client to the five services."""
    return AsyncClient(
        settings.services.endpoints,
        security=settings.services.security,
        timeouts=Timeouts(call=settings.services.call_seconds),
        retry=_RETRY,
    )


def listen(server: HttpSettings) -> socket.socket:
    """Opens the port.

    Raises:
        FailedPreconditionError: reason PORT_IN_USE.
    """
    host = server.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, server.port), family=family, backlog=2048)
    except OSError as error:
        raise FailedPreconditionError(
            f"Nobody can listen on {server.host}:{server.port}: another program has the port, or the address is not of "
            "this machine. Stop that program, or set server.port to a free port.",
            reason="PORT_IN_USE",
        ) from error
    # Connections take it over. Without it the body of an answer waits until the browser has acknowledged the head,
    # which it puts off for 40 ms; asyncio sets it for listeners of its own making alone.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def sign_in_address(settings: ConsoleSettings) -> str:
    """The address that people open first; where the machine has one account it carries the token."""
    accounts = accounts_of(settings)
    if [account.name for account in accounts] == [""]:
        return f"{settings.url}/login?token={accounts[0].token}"
    return f"{settings.url}/login"


def _greet(settings: ConsoleSettings) -> None:
    """Tells the person at the terminal where to go; a file of logs gets no token."""
    if sys.stderr.isatty():
        print(f"The console is at {sign_in_address(settings)}", file=sys.stderr)  # noqa: T201 - for people


async def _serve(settings: ConsoleSettings, listener: socket.socket) -> None:
    app = build_app(settings, lambda: open_client(settings))
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=settings.server.drain_seconds,
    )
    with metrics_page(settings.server.host, settings.server.metrics_port):
        log.info("serving", extra={"address": settings.url})
        _greet(settings)
        await uvicorn.Server(config).serve(sockets=[listener])


def _bound(settings: ConsoleSettings, listener: socket.socket) -> ConsoleSettings:
    """The settings with the port that was taken."""
    server = settings.server.model_copy(update={"port": listener.getsockname()[1]})
    return settings.model_copy(update={"server": server})
