"""One worker of a pool: its channel, its health, and what it was told to serve."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ilf_common.errors import IlfError, RetryableError, UnavailableError
from ilf_common.front.api import Method
from ilf_common.rpc import client

log = logging.getLogger("ilf.front")

_RECONNECT_SECONDS = 0.3
_PREPARE_AGAIN_SECONDS = 1.0
_REST_SECONDS = 0.2
_DRAIN_SECONDS = 24 * 3600.0


class Worker:
    """Ready between the moment that it is healthy and prepared and the moment that it is not healthy any more.

    Args:
        address: `host:port`.
        channel: To it; closed with the worker.
        service: Full gRPC service name, whose health counts.
        prepare: Brings the worker to what the pool serves; an error keeps it from being ready.
        on_ready: Told of every change.

    Attributes:
        told: Revision of each key of the journal that the worker has.
        telling: Held while the worker is being told, one at a time.
    """

    def __init__(
        self,
        address: str,
        channel: grpc.aio.Channel,
        service: str,
        prepare: Callable[[Worker], Awaitable[None]],
        on_ready: Callable[[Worker, bool], None],
    ) -> None:
        self.address = address
        self.told: dict[str, int] = {}
        self.telling = asyncio.Lock()
        self._channel = channel
        self._service = service
        self._prepare = prepare
        self._on_ready = on_ready
        self._methods: dict[str, Callable[..., Any]] = {}
        self._is_ready = False
        self._preparing: asyncio.Task[None] | None = None
        self._watching = asyncio.create_task(self._watch())

    async def call(self, method: Method, request: Message, *, timeout: float | None) -> Any:
        """A call with one response; errors are those of the project's tree."""
        try:
            return await client.call(self._method(method), request, timeout=timeout)
        except grpc.aio.UsageError as error:
            raise gone(self.address) from error

    async def stream(self, method: Method, request: Message, *, timeout: float | None) -> AsyncGenerator[Any, None]:
        """A call with many responses."""
        try:
            async with aclosing(client.stream(self._method(method), request, timeout=timeout)) as responses:
                async for response in responses:
                    yield response
        except grpc.aio.UsageError as error:
            raise gone(self.address) from error

    def rest(self, seconds: float | None) -> None:
        """A call broke off: the worker gets no further ones until it had time to mend, or its health tells more."""
        if self._is_ready:
            self._set_ready(False)
            self._preparing = asyncio.create_task(self._make_ready(seconds or _REST_SECONDS))

    async def leave(self) -> None:
        """Gets no further calls; the running ones end, then the channel is closed."""
        await self._stop_watching()
        await self._channel.close(_DRAIN_SECONDS)

    async def close(self) -> None:
        """Ends at once."""
        await self._stop_watching()
        await self._channel.close()

    def _method(self, method: Method) -> Callable[..., Any]:
        if method.path not in self._methods:
            open_method = self._channel.unary_stream if method.streams else self._channel.unary_unary
            self._methods[method.path] = open_method(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
        return self._methods[method.path]

    async def _watch(self) -> None:
        health: Any = health_pb2_grpc.HealthStub(self._channel)
        request = health_pb2.HealthCheckRequest(service=self._service)
        while True:
            with suppress(IlfError):
                async with aclosing(client.stream(health.Watch, request, timeout=None)) as states:
                    async for state in states:
                        self._turn(state.status == health_pb2.HealthCheckResponse.SERVING)
            # Who answers next may be another process, which knows nothing.
            self.told.clear()
            self._turn(False)
            await asyncio.sleep(_RECONNECT_SECONDS)

    def _turn(self, healthy: bool) -> None:
        if self._preparing is not None:
            self._preparing.cancel()
            self._preparing = None
        if not healthy:
            self._set_ready(False)
        elif not self._is_ready:
            self._preparing = asyncio.create_task(self._make_ready(0))

    async def _make_ready(self, pause: float) -> None:
        await asyncio.sleep(pause)
        while True:
            try:
                await self._prepare(self)
                break
            except RetryableError as error:
                reason, again = error.reason, error.retry_after or _PREPARE_AGAIN_SECONDS
            except Exception:
                log.exception("worker cannot be prepared", extra={"worker": self.address})
                reason, again = "INTERNAL", _PREPARE_AGAIN_SECONDS
            log.warning("worker not prepared yet", extra={"worker": self.address, "reason": reason})
            await asyncio.sleep(again)
        self._set_ready(True)

    def _set_ready(self, ready: bool) -> None:
        if ready != self._is_ready:
            self._is_ready = ready
            log.info("worker ready" if ready else "worker not ready", extra={"worker": self.address})
            self._on_ready(self, ready)

    async def _stop_watching(self) -> None:
        tasks = [task for task in (self._watching, self._preparing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._set_ready(False)


def gone(address: str) -> UnavailableError:
    """The error of a worker that went between two steps of a call."""
    return UnavailableError(f"Worker {address} has gone.", reason="WORKER_GONE")
