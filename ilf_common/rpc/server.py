"""Runs a gRPC server from its start to the end of its drain."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ilf_common.errors import FailedPreconditionError, IlfError
from ilf_common.rpc.files import WatchedFile
from ilf_common.rpc.health import HealthServicer
from ilf_common.rpc.interceptor import HEALTH_SERVICE, CallInterceptor
from ilf_common.rpc.probes import health_port
from ilf_common.settings import ServerSettings, TelemetrySettings
from ilf_common.telemetry import configure_telemetry, flush_telemetry, metrics_page

log = logging.getLogger("ilf.server")

Register = Callable[[grpc.aio.Server], Sequence[str]]
Action = Callable[[], Awaitable[None]]


async def serve(
    component: str,
    settings: ServerSettings,
    *,
    register: Register,
    start: Action,
    stop: Action,
    check_health: Action | None = None,
    ready: Callable[[int], None] | None = None,
    drain: Action | None = None,
    telemetry: TelemetrySettings | None = None,
    stopping: asyncio.Event | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, or until whoever hosts the server says so. SIGUSR1: stops, and starts anew.

    The port is open from the beginning, so that probes get an answer: health is NOT_SERVING and every other call is
    UNAVAILABLE until `start` has returned. On the signal health turns NOT_SERVING, new calls are refused, running
    ones have `settings.drain_seconds` to finish, and `stop` is called last.

    Args:
        component: Name of the program, for logs, traces and the domain of errors.
        settings: Where and how to listen.
        register: Adds the servicers and answers their full gRPC service names.
        start: Loads what the service needs.
        stop: Frees it; also called when `start` failed or was cut short.
        check_health: Raises while the service cannot work; polled every `settings.health_check_seconds`.
        ready: Called with the bound port once the service serves.
        drain: Called when draining begins, to end streams that would otherwise go on for ever.
        telemetry: Log level and trace collector.
        stopping: Set by the host to stop; None listens for the signals, which only a process's main thread can.

    Raises:
        SystemExit: status 1; the port is in use, a certificate cannot be read, or `start` failed. The log says why.
    """
    configure_telemetry(component, telemetry or TelemetrySettings())
    is_hosted, stopping = stopping is not None, stopping or asyncio.Event()
    restarting = asyncio.Event()
    if not is_hosted:
        _listen_for_signals(stopping, restarting)
    try:
        server, health, started, port = _build(component, settings, register)
        with metrics_page(settings.host, settings.metrics_port):
            async with health_port(settings.host, settings.health_port, health):
                await server.start()
                try:
                    if await _start(component, start, stopping):
                        if not is_hosted:
                            # Libraries that were loaded meanwhile may have put their own handlers in place (Ray does).
                            _listen_for_signals(stopping, restarting)
                        started.set()
                        await health.set_serving(True)
                        log.info("serving", extra={"address": f"{settings.host}:{port}"})
                        if ready is not None:
                            ready(port)
                        await _serve_until(stopping, health, check_health, settings.health_check_seconds)
                finally:
                    await _drain(server, health, settings.drain_seconds, drain)
                    await _stop(component, stop)
    except IlfError as error:
        log.critical("cannot serve: %s", error.message, extra={"reason": error.reason})
        raise SystemExit(1) from error
    finally:
        flush_telemetry()
    if restarting.is_set():
        # In the same process: a container whose process ended would come back with its image's code, not the changed.
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    log.info("stopped")


def _listen_for_signals(stopping: asyncio.Event, restarting: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)

    def restart() -> None:
        restarting.set()
        stopping.set()

    loop.add_signal_handler(signal.SIGUSR1, restart)


def _build(
    component: str, settings: ServerSettings, register: Register
) -> tuple[grpc.aio.Server, HealthServicer, asyncio.Event, int]:
    started = asyncio.Event()
    token = WatchedFile(settings.token_file) if settings.token_file else None
    server = new_server(settings, CallInterceptor(component, token=token, started=started.is_set))
    services = register(server)
    health = HealthServicer(services)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    if settings.reflection:
        reflection.enable_server_reflection([*services, HEALTH_SERVICE, reflection.SERVICE_NAME], server)
    return server, health, started, bind(server, settings)


def new_server(settings: ServerSettings, interceptor: CallInterceptor) -> grpc.aio.Server:
    """A server with the project's limits and interceptor, without servicers and port."""
    return grpc.aio.server(
        interceptors=[interceptor],
        options=[
            # Without this a second server binds the same port in silence and takes half of the calls.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_send_message_length", settings.max_message_bytes),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ],
        maximum_concurrent_rpcs=settings.max_concurrent_rpcs,
    )


def bind(server: grpc.aio.Server, settings: ServerSettings) -> int:
    """Opens the port, with TLS where certificates are set.

    Returns:
        The bound port.

    Raises:
        FailedPreconditionError: PORT_IN_USE, or FILE_UNREADABLE for a certificate.
    """
    address = f"{settings.host}:{settings.port}"
    try:
        if settings.tls_cert_file is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, _credentials(settings))
    except RuntimeError as error:
        raise FailedPreconditionError(
            f"Nobody can listen on {address}: another program has the port, or the address is not of this machine. "
            "Stop that program, or set server.port to a free port.",
            reason="PORT_IN_USE",
            metadata={"address": address},
        ) from error


def _credentials(settings: ServerSettings) -> grpc.ServerCredentials:
    assert settings.tls_cert_file and settings.tls_key_file
    certificate, key = WatchedFile(settings.tls_cert_file), WatchedFile(settings.tls_key_file)
    authorities = WatchedFile(settings.tls_client_ca_file) if settings.tls_client_ca_file else None

    def configuration() -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(key.read(), certificate.read())], authorities.read() if authorities else None
        )

    # gRPC keeps what it has when the answer is None; the published types do not know that.
    def renewed() -> grpc.ServerCertificateConfiguration:
        try:
            return configuration()
        except IlfError as error:
            log.error("certificates not renewed: %s", error.message, extra={"reason": error.reason})
            return None  # type: ignore[return-value]

    return grpc.dynamic_ssl_server_credentials(
        configuration(), renewed, require_client_authentication=authorities is not None
    )


async def _start(component: str, start: Action, stopping: asyncio.Event) -> bool:
    """Starts the service; False when a signal came first."""
    starting = asyncio.ensure_future(start())
    signalled = asyncio.ensure_future(stopping.wait())
    await asyncio.wait({starting, signalled}, return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
        return False
    try:
        starting.result()
    except IlfError:
        raise
    except Exception as error:
        log.exception("%s did not start", component)
        raise FailedPreconditionError(
            f"{component} did not start ({type(error).__name__}); the line before this one has the stack.",
            reason="START_FAILED",
        ) from error
    return True


async def _stop(component: str, stop: Action) -> None:
    try:
        await stop()
    except Exception:
        log.exception("%s did not stop cleanly", component)


async def _serve_until(stopping: asyncio.Event, health: HealthServicer, check: Action | None, pause: float) -> None:
    while not stopping.is_set():
        if check is not None:
            await health.set_serving(await _healthy(check))
        try:
            await asyncio.wait_for(stopping.wait(), pause if check is not None else None)
        except TimeoutError:
            continue


async def _healthy(check: Action) -> bool:
    try:
        await check()
    except IlfError as error:
        log.error("not healthy: %s", error.message, extra={"reason": error.reason})
        return False
    except Exception:
        log.exception("the health check itself failed")
        return False
    return True


async def _drain(server: grpc.aio.Server, health: HealthServicer, grace: float, drain: Action | None) -> None:
    log.info("draining", extra={"seconds": grace})
    await health.drain()
    if drain is not None:
        await drain()
    await server.stop(grace)
