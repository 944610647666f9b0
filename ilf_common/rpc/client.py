"""Calls to other services: channels, retries, and errors as the classes that the server raised."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import grpc
from opentelemetry import propagate

from ilf_common.errors import IlfError, ResourceExhaustedError, RetryableError, UnavailableError
from ilf_common.rpc.context import REQUEST_ID_KEY, current_call, new_request_id
from ilf_common.rpc.files import WatchedFile
from ilf_common.rpc.renewal import RenewingChannel
from ilf_common.rpc.status import from_rpc_error

MAX_MESSAGE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class ChannelSettings:
    """How a service is reached.

    Attributes:
        address: `host:port`.
        tls_ca_file: PEM authorities of the server's certificate; None means no TLS.
        tls_cert_file: PEM certificate of this client, where the server asks for one.
        tls_key_file: PEM private key of this client.
        token_file: File with the bearer token that the server wants, in its first line.
    """

    address: str
    tls_ca_file: Path | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    token_file: Path | None = None

    # Part of settings trees, but no model of pydantic: importing that would take half of the SDK's start-up.
    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}


@dataclass(frozen=True)
class RetryPolicy:
    """When and how often a call is repeated.

    The pause before repeat k is drawn evenly from [base/2, base] with base = initial * multiplier^k, at most
    `max_backoff`; a pause that the server asks for (RetryInfo) is the least one.

    Attributes:
        max_attempts: Attempts in all.
        initial_backoff: Seconds.
        max_backoff: Seconds.
        multiplier: Growth per attempt.
        total_seconds: Time for all attempts where the call has no timeout of its own.
    """

    max_attempts: int = 6
    initial_backoff: float = 0.1
    max_backoff: float = 5.0
    multiplier: float = 2.0
    total_seconds: float = 60.0

    def pause(self, attempt: int, retry_after: float | None) -> float:
        """Seconds to wait after the failed attempt of this number (from 0)."""
        base = min(self.initial_backoff * self.multiplier**attempt, self.max_backoff)
        if retry_after is None:
            return base * random.uniform(0.5, 1.0)
        return retry_after + self.initial_backoff * random.random()


def open_channel(settings: ChannelSettings, *, server_name: str | None = None) -> grpc.aio.Channel:
    """A channel that carries trace, request id and token with every call; the caller closes it.

    Renewed certificate files are picked up by the next call, without a restart.

    Args:
        settings: How the service is reached.
        server_name: The name that the server's certificate must hold, where that is not the host of the address.

    Raises:
        FailedPreconditionError: reason FILE_UNREADABLE; a certificate or token file cannot be read.
    """
    token = WatchedFile(settings.token_file) if settings.token_file else None
    interceptors = [kind(token) for kind in (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream)]
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # A server that comes back is found again within seconds, not after gRPC's two minutes.
        ("grpc.initial_reconnect_backoff_ms", 200),
        # Whatever its name, this is how long a connection may take: two round trips and a TLS handshake on a busy core.
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 3_000),
    ]
    if settings.tls_ca_file is None:
        return grpc.aio.insecure_channel(settings.address, options=options, interceptors=interceptors)
    if server_name is not None:
        options.append(("grpc.ssl_target_name_override", server_name))
    certificates = _Certificates(settings.tls_ca_file, settings.tls_key_file, settings.tls_cert_file)
    return RenewingChannel(
        lambda: grpc.aio.secure_channel(
            settings.address, certificates.credentials(), options=options, interceptors=interceptors
        ),
        certificates.stamp,
    )


class _Certificates:
    """The files that a TLS connection is made with."""

    def __init__(self, authorities: Path, key: Path | None, certificate: Path | None) -> None:
        self._files = [WatchedFile(path) if path else None for path in (authorities, key, certificate)]

    def stamp(self) -> tuple[bytes | None, ...]:
        """The present content; other content means other certificates."""
        return tuple(file.read() if file else None for file in self._files)

    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(*self.stamp())


def outgoing_metadata(present: Any, token: bytes | None) -> grpc.aio.Metadata:
    """What a call carries: the caller's metadata, `traceparent`, the request id (that of the call being answered,
    or a fresh one) and the token.
    """
    metadata = grpc.aio.Metadata(*(present or ()))
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    for key, value in carrier.items():
        metadata.set_all(key, [value])
    if metadata.get(REQUEST_ID_KEY) is None:
        call = current_call()
        metadata.add(REQUEST_ID_KEY, call.request_id if call else new_request_id())
    if token and (lines := token.decode().split()):
        # While tokens are rotated the file has several; servers know all of them.
        metadata.set_all("authorization", [f"Bearer {lines[0]}"])
    return metadata


class _Carrier:
    """What the four kinds of client interceptors share; gRPC takes an object for one kind only."""

    def __init__(self, token: WatchedFile | None) -> None:
        self._token = token

    def details(self, client_call_details: Any) -> grpc.aio.ClientCallDetails:
        token = self._token.read() if self._token else None
        return grpc.aio.ClientCallDetails(
            method=client_call_details.method,
            timeout=client_call_details.timeout,
            metadata=outgoing_metadata(client_call_details.metadata, token),
            credentials=client_call_details.credentials,
            wait_for_ready=client_call_details.wait_for_ready,
        )


class _UnaryUnary(_Carrier, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self.details(client_call_details), request)


class _UnaryStream(_Carrier, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(self.details(client_call_details), request)


class _StreamUnary(_Carrier, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(self.details(client_call_details), request_iterator)


class _StreamStream(_Carrier, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(self.details(client_call_details), request_iterator)


async def call(
    method: Callable[..., Any],
    request: Any,
    *,
    timeout: float | None,
    retry: RetryPolicy | None = None,
    metadata: Sequence[tuple[str, str]] = (),
) -> Any:
    """One call with one response.

    UNAVAILABLE is repeated, and RESOURCE_EXHAUSTED where the server says when (RetryInfo); all attempts carry the
    same request id and share one deadline.

    Args:
        method: Method of a stub, unary on the side of the response.
        request: Message, or an iterator of messages.
        timeout: Seconds for all attempts together.
        retry: None makes one attempt. An iterator cannot be repeated, so leave it None there.
        metadata: Sent with the call.

    Returns:
        The response message.

    Raises:
        IlfError: The class that the server raised.
    """
    if retry is None:
        return await _attempt(method, request, timeout, metadata)
    if not any(key == REQUEST_ID_KEY for key, _ in metadata):
        running = current_call()
        metadata = (*metadata, (REQUEST_ID_KEY, running.request_id if running else new_request_id()))
    deadline = time.monotonic() + (timeout if timeout is not None else retry.total_seconds)
    for attempt in range(retry.max_attempts):
        try:
            return await _attempt(method, request, max(0.0, deadline - time.monotonic()), metadata)
        except RetryableError as error:
            pause = retry.pause(attempt, error.retry_after)
            last = attempt + 1 == retry.max_attempts
            if last or not is_transient(error) or time.monotonic() + pause >= deadline:
                raise
        await asyncio.sleep(pause)
    raise ValueError(f"max_attempts must be at least 1, is {retry.max_attempts}")


def is_transient(error: IlfError) -> bool:
    """Whether the same call may be sent again: UNAVAILABLE, or RESOURCE_EXHAUSTED with a time to wait."""
    return isinstance(error, UnavailableError) or (
        isinstance(error, ResourceExhaustedError) and error.retry_after is not None
    )


async def _attempt(
    method: Callable[..., Any], request: Any, timeout: float | None, metadata: Sequence[tuple[str, str]]
) -> Any:
    try:
        return await method(request, timeout=timeout, metadata=tuple(metadata) or None)
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None


async def stream(
    method: Callable[..., Any],
    request: Any,
    *,
    timeout: float | None,
    metadata: Sequence[tuple[str, str]] = (),
) -> AsyncGenerator[Any, None]:
    """The responses of a streaming call; closing the iterator cancels the call.

    Args:
        method: Method of a stub, streaming on the side of the response.
        request: Message, or an iterator of messages.
        timeout: Seconds for the whole stream.
        metadata: Sent with the call.

    Yields:
        Response messages.

    Raises:
        IlfError: The class that the server raised.
    """
    running = method(request, timeout=timeout, metadata=tuple(metadata) or None)
    try:
        async for response in running:
            yield response
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None
    finally:
        running.cancel()
