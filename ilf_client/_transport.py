"""Channels, deadlines and repeats: what every call of the SDK shares."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeVar, cast

import grpc
from google.protobuf.message import Message

from ilf_client._convert import from_proto
from ilf_client.endpoints import Endpoints, Security
from ilf_client.models.inference import Outcome
from ilf_common.errors import InvalidArgumentError, RetryableError, UnavailableError
from ilf_common.rpc.client import ChannelSettings, RetryPolicy, call, is_transient, open_channel, stream
from ilf_common.rpc.status import from_status

Request = TypeVar("Request")
Response = TypeVar("Response")
T = TypeVar("T")

MessageT = TypeVar("MessageT", bound=Message)

_ITEMS_PER_REQUEST = 1024
_BYTES_PER_REQUEST = 48 * 1024 * 1024


class Item(Protocol):
    """An item of a batch."""

    @property
    def item_id(self) -> str:
        """Unique in the batch."""


ItemT = TypeVar("ItemT", bound=Item)


@dataclass(frozen=True)
class Timeouts:
    """Seconds after which a call is given up; each method takes its own `timeout` too.

    Attributes:
        call: A single call, its repeats included.
        load: Loading a checkpoint.
        batch: One request of a batch call, which holds at most 1,024 items.
        reconnect: How long a stream that broke off waits for its server to come back.
    """

    call: float = 120.0
    load: float = 900.0
    batch: float = 3600.0
    reconnect: float = 60.0


class Transport:
    """The channels of one client. Belongs to the event loop that first uses it."""

    def __init__(self, endpoints: Endpoints, security: Security, timeouts: Timeouts, retry: RetryPolicy) -> None:
        self.endpoints = endpoints
        self.timeouts = timeouts
        self._security = security
        self._retry = retry
        self._channels: dict[str, grpc.aio.Channel] = {}

    def channel(self, service: str) -> grpc.aio.Channel:
        """The channel to a service; services behind one address share it."""
        address: str = getattr(self.endpoints, service)
        if address not in self._channels:
            self._channels[address] = open_channel(
                ChannelSettings(
                    address=address,
                    tls_ca_file=self._security.tls_ca_file,
                    tls_cert_file=self._security.tls_cert_file,
                    tls_key_file=self._security.tls_key_file,
                    token_file=self._security.token_file,
                )
            )
        return self._channels[address]

    async def call(
        self,
        method: Callable[[Request], Awaitable[Response]],
        request: Request,
        timeout: float | None,
    ) -> Response:
        """One call. Repeats while the service is UNAVAILABLE send the very same request, its request_id included."""
        deadline = self.timeouts.call if timeout is None else timeout
        return cast(Response, await call(method, request, timeout=deadline, retry=self._retry))

    async def watch(
        self, method: Callable[[Request], AsyncIterable[Response]], request: Request, timeout: float | None
    ) -> AsyncIterator[Response]:
        """A stream that starts with the present state: a lost connection is opened again, unnoticed."""
        patience = _Patience(self._retry, self.timeouts.reconnect, timeout)
        while True:
            try:
                async for response in stream(method, request, timeout=patience.remaining()):
                    patience.renew()
                    yield response
                return
            except RetryableError as error:
                await patience.pause_after(error)

    async def resume(
        self, attempt: Callable[[float | None, Callable[[], None]], Awaitable[T]], timeout: float | None
    ) -> T:
        """Repeats what goes on where it stopped, while it gets on.

        Args:
            attempt: Takes the seconds that are left and what to call when it has got on.
            timeout: Seconds for all attempts together.
        """
        patience = _Patience(self._retry, self.timeouts.reconnect, timeout)
        while True:
            try:
                return await attempt(patience.remaining(), patience.renew)
            except RetryableError as error:
                await patience.pause_after(error)

    async def batch(
        self,
        method: Callable[[MessageT], AsyncIterable[Any]],
        items: Iterable[ItemT],
        build: Callable[[Sequence[ItemT]], MessageT],
        result: type[T],
        timeout: float | None,
    ) -> AsyncIterator[Outcome[T]]:
        """Outcomes of all items as they finish; items whose outcome a lost connection swallowed are sent again.

        Raises:
            InvalidArgumentError: Two items have the same id.
        """
        seen: set[str] = set()
        for chunk in _chunks(items):
            pending = {item.item_id: item for item in chunk}
            _require_unique(chunk, seen)
            seconds = self.timeouts.batch if timeout is None else timeout
            patience = _Patience(self._retry, self.timeouts.reconnect, seconds)
            while pending:
                sent, request = _largest_request(list(pending.values()), build)
                try:
                    async for response in stream(method, request, timeout=patience.remaining()):
                        patience.renew()
                        for outcome in response.outcomes:
                            if pending.pop(outcome.item_id, None) is not None:
                                yield _outcome(outcome, result)
                    if any(item.item_id in pending for item in sent):
                        raise UnavailableError("the stream ended before all of its outcomes had come")
                except RetryableError as error:
                    await patience.pause_after(error)

    async def close(self) -> None:
        """Closes all channels."""
        channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            await channel.close()


def new_request_id(given: str | None) -> str:
    """The caller's id, or a fresh UUID."""
    return given or str(uuid.uuid4())


async def collect_pages(fetch: Callable[[str], Any], field: str, result: type[T]) -> AsyncIterator[T]:
    """All resources of a paginated list, page after page as they are consumed.

    Args:
        fetch: From a page token to the awaitable response.
        field: The response's field with the resources.
        result: Their value class.
    """
    token = ""
    while True:
        response = await fetch(token)
        for message in getattr(response, field):
            yield from_proto(message, result)
        token = response.next_page_token
        if not token:
            return


class _Patience:
    """How long a stream is opened again.

    Before its first message it has as many attempts as any call; after one, a server that restarts has
    `reconnect` seconds to come back. The deadline of the whole holds in any case.
    """

    def __init__(self, retry: RetryPolicy, reconnect: float, timeout: float | None) -> None:
        self._retry = retry
        self._reconnect = reconnect
        self._end = None if timeout is None else time.monotonic() + timeout
        self._last_message: float | None = None
        self._failures = 0

    def remaining(self) -> float | None:
        """Seconds to the deadline."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def renew(self) -> None:
        """A message came."""
        self._last_message = time.monotonic()
        self._failures = 0

    async def pause_after(self, error: RetryableError) -> None:
        """Waits before the next attempt, or raises the error."""
        self._failures += 1
        pause = self._retry.pause(self._failures - 1, error.retry_after)
        if self._last_message is None:
            spent = self._failures >= self._retry.max_attempts
        else:
            spent = time.monotonic() + pause > self._last_message + self._reconnect
        remaining = self.remaining()
        if spent or not is_transient(error) or (remaining is not None and pause >= remaining):
            raise error
        await asyncio.sleep(pause)


def _outcome(message: Any, result: type[T]) -> Outcome[T]:
    if message.WhichOneof("outcome") == "error":
        return Outcome(message.item_id, error=from_status(message.error))
    return Outcome(message.item_id, result=from_proto(message.result, result))


def _chunks(items: Iterable[ItemT]) -> Iterator[list[ItemT]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, _ITEMS_PER_REQUEST)):
        yield chunk


def _largest_request(
    items: Sequence[ItemT], build: Callable[[Sequence[ItemT]], MessageT]
) -> tuple[Sequence[ItemT], MessageT]:
    """The first items that fit into one message, and that message."""
    request = build(items)
    while len(items) > 1 and request.ByteSize() > _BYTES_PER_REQUEST:
        items = items[: len(items) // 2]
        request = build(items)
    return items, request


def _require_unique(chunk: Sequence[ItemT], seen: set[str]) -> None:
    for item in chunk:
        if item.item_id in seen:
            raise InvalidArgumentError.of("items.item_id", f"{item.item_id!r} occurs twice; ids must be unique")
        seen.add(item.item_id)
