"""A channel that is opened anew when what it was made with has changed (gRPC reads certificates only once)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import grpc

from ilf_common.errors import IlfError

log = logging.getLogger("ilf.rpc")

# Calls that run on the old connection go on; their own deadlines end them earlier than this.
_LONGEST_CALL_SECONDS = 24 * 3600.0


class RenewingChannel(grpc.aio.Channel):
    """Opens another channel behind the same stubs once `stamp` answers something new.

    A connection that stands keeps the certificates of its beginning: only a new one needs the renewed files. So the
    check is made where a call begins, and calls that run finish on the channel that they began on.

    Args:
        connect: Opens a channel.
        stamp: Tells what it is made with; an error leaves the present channel in use.
    """

    def __init__(self, connect: Callable[[], grpc.aio.Channel], stamp: Callable[[], object]) -> None:
        self._connect = connect
        self._stamp = stamp
        self._made_with = stamp()
        self._channel = connect()
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def current(self) -> grpc.aio.Channel:
        """The channel for a call that begins now."""
        try:
            stamp = self._stamp()
        except IlfError as error:
            log.error("certificates not renewed: %s", error.message, extra={"reason": error.reason})
            return self._channel
        if stamp != self._made_with:
            log.info("certificates renewed")
            old, self._channel, self._made_with = self._channel, self._connect(), stamp
            retiring = asyncio.get_running_loop().create_task(old.close(_LONGEST_CALL_SECONDS))
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)
        return self._channel

    def unary_unary(self, method: str, *arguments: Any, **options: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return self._method(lambda channel: channel.unary_unary(method, *arguments, **options))

    def unary_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return self._method(lambda channel: channel.unary_stream(method, *arguments, **options))

    def stream_unary(self, method: str, *arguments: Any, **options: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return self._method(lambda channel: channel.stream_unary(method, *arguments, **options))

    def stream_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        """See `grpc.aio.Channel`."""
        return self._method(lambda channel: channel.stream_stream(method, *arguments, **options))

    def _method(self, bind: Callable[[grpc.aio.Channel], Callable[..., Any]]) -> Callable[..., Any]:
        channel = self._channel
        bound = bind(channel)

        def begin(*arguments: Any, **options: Any) -> Any:
            nonlocal channel, bound
            if (current := self.current) is not channel:
                channel, bound = current, bind(current)
            return bound(*arguments, **options)

        return begin

    async def close(self, grace: float | None = None) -> None:
        """Closes every channel that is still open."""
        for retiring in self._retiring:
            retiring.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """See `grpc.aio.Channel`."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """See `grpc.aio.Channel`."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """See `grpc.aio.Channel`."""
        await self._channel.channel_ready()

    async def __aenter__(self) -> RenewingChannel:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()
