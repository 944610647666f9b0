"""Deadlines, cancellation, request ids, traces and retries between a real client and a real server."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from ilf_common.errors import (
    DeadlineExceededError,
    IlfError,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
)
from ilf_common.rpc.client import ChannelSettings, RetryPolicy, call, open_channel, stream
from ilf_common.rpc.context import CallContext, current_call, time_remaining
from tests.fakes.demo_service import KINDS, DemoServicer, methods, send
from tests.support import running_channel, running_server

FAST = RetryPolicy(max_attempts=4, initial_backoff=0.01, max_backoff=0.05, total_seconds=5)


class Recording(DemoServicer):
    """Fails the first `failures` calls and keeps what it saw of every call."""

    def __init__(self, failures: int = 0, error: IlfError | None = None) -> None:
        super().__init__()
        self.failures = failures
        self.failure = error or UnavailableError("not now")
        self.seen: list[CallContext] = []
        self.remaining: list[float | None] = []
        self.traces: list[str] = []
        self.times: list[float] = []

    async def answer(self, text: str) -> StringValue:
        seen = current_call()
        assert seen is not None
        self.seen.append(seen)
        self.remaining.append(time_remaining())
        self.traces.append(trace.format_trace_id(trace.get_current_span().get_span_context().trace_id))
        self.times.append(time.monotonic())
        if len(self.seen) <= self.failures:
            raise self.failure
        return await super().answer(text)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_passed_deadline_cancels_the_handler(kind: str) -> None:
    servicer = DemoServicer()
    async with running_channel(servicer.register) as channel:
        with pytest.raises(DeadlineExceededError):
            await send(channel, kind, "wait", timeout=0.3)
        await asyncio.wait_for(servicer.cancelled.wait(), 5)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_caller_who_gives_up_cancels_the_handler(kind: str) -> None:
    servicer = DemoServicer()
    async with running_channel(servicer.register) as channel:
        waiting = asyncio.create_task(send(channel, kind, "wait", timeout=30))
        await asyncio.wait_for(servicer.waiting.wait(), 5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(servicer.cancelled.wait(), 5)


async def test_closing_a_stream_cancels_the_handler() -> None:
    servicer = DemoServicer()
    async with running_channel(servicer.register) as channel:
        request = StringValue(value="wait")
        async with aclosing(stream(methods(channel)["UnaryStream"], request, timeout=30)) as responses:
            assert (await anext(responses)).value == "first"
            await asyncio.wait_for(servicer.waiting.wait(), 5)
        await asyncio.wait_for(servicer.cancelled.wait(), 5)


async def test_the_handler_knows_the_time_that_is_left() -> None:
    servicer = Recording()
    async with running_channel(servicer.register) as channel:
        await send(channel, "UnaryUnary", "a", timeout=3)
        await methods(channel)["UnaryUnary"](StringValue(value="a"))
    first, second = servicer.remaining
    # gRPC rounds the time that it sends up.
    assert first is not None and 1 < first < 3.2
    assert second is None


async def test_all_attempts_of_one_call_carry_one_request_id_and_other_calls_another() -> None:
    servicer = Recording(failures=2)
    async with running_channel(servicer.register) as channel:
        method = methods(channel)["UnaryUnary"]
        await call(method, StringValue(value="a"), timeout=5, retry=FAST)
        await call(method, StringValue(value="a"), timeout=5)
        await call(method, StringValue(value="a"), timeout=5, metadata=[("x-request-id", "mine")])
    ids = [seen.request_id for seen in servicer.seen]
    assert ids[0] == ids[1] == ids[2] != ids[3]
    assert ids[4] == "mine"


async def test_a_call_made_while_answering_carries_the_id_and_the_trace_of_the_first() -> None:
    trace.set_tracer_provider(TracerProvider())
    inner = Recording()

    class Front(Recording):
        channel: Any = None

        async def answer(self, text: str) -> StringValue:
            await super().answer(text)
            return await call(methods(self.channel)["UnaryUnary"], StringValue(value=text), timeout=5)  # type: ignore[no-any-return]

    front = Front()
    async with running_channel(inner.register) as front.channel, running_channel(front.register) as channel:
        with trace.get_tracer("test").start_as_current_span("outer") as span:
            await send(channel, "UnaryStream", "a")
        expected = trace.format_trace_id(span.get_span_context().trace_id)
    assert inner.seen[0].request_id == front.seen[0].request_id
    assert front.traces == [expected] and inner.traces == [expected]


async def test_unavailable_is_repeated_until_it_works() -> None:
    servicer = Recording(failures=3)
    async with running_channel(servicer.register) as channel:
        answer = await call(methods(channel)["UnaryUnary"], StringValue(value="a"), timeout=5, retry=FAST)
    assert answer.value == "a" and len(servicer.seen) == 4


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (UnavailableError("x"), 4),
        (ResourceExhaustedError("x", retry_after=0.01), 4),
        (ResourceExhaustedError("x"), 1),
        (InvalidArgumentError("x"), 1),
        (DeadlineExceededError("x"), 1),
    ],
    ids=["unavailable", "full-with-time", "full-without-time", "invalid", "deadline"],
)
async def test_only_what_may_pass_is_repeated_and_not_for_ever(error: IlfError, attempts: int) -> None:
    servicer = Recording(failures=100, error=error)
    async with running_channel(servicer.register) as channel:
        with pytest.raises(type(error)):
            await call(methods(channel)["UnaryUnary"], StringValue(value="a"), timeout=5, retry=FAST)
    assert len(servicer.seen) == attempts


async def test_the_pause_that_the_server_asks_for_wins_over_the_backoff() -> None:
    servicer = Recording(failures=1, error=ResourceExhaustedError("x", retry_after=0.4))
    async with running_channel(servicer.register) as channel:
        await call(methods(channel)["UnaryUnary"], StringValue(value="a"), timeout=5, retry=FAST)
    assert servicer.times[1] - servicer.times[0] >= 0.4


async def test_a_pause_beyond_the_deadline_is_not_waited_for() -> None:
    servicer = Recording(failures=100, error=UnavailableError("x", retry_after=60))
    async with running_channel(servicer.register) as channel:
        begin = time.monotonic()
        with pytest.raises(UnavailableError):
            await call(methods(channel)["UnaryUnary"], StringValue(value="a"), timeout=2, retry=FAST)
    assert time.monotonic() - begin < 1.5


async def test_a_server_that_comes_back_is_found_again() -> None:
    servicer = DemoServicer()
    async with running_server(servicer.register) as address:
        channel = open_channel(ChannelSettings(address=address))
        await send(channel, "UnaryUnary", "a")
    with pytest.raises(UnavailableError):
        await send(channel, "UnaryUnary", "a")
    from ilf_common.rpc.interceptor import CallInterceptor
    from ilf_common.rpc.server import bind, new_server
    from ilf_common.settings import ServerSettings

    settings = ServerSettings(port=int(address.rpartition(":")[2]))
    server = new_server(settings, CallInterceptor("test"))
    servicer.register(server)
    bind(server, settings)
    await server.start()
    patient = RetryPolicy(max_attempts=50, initial_backoff=0.05, max_backoff=0.2, total_seconds=20)
    answer = await call(methods(channel)["UnaryUnary"], StringValue(value="b"), timeout=20, retry=patient)
    assert answer.value == "b"
    await channel.close()
    await server.stop(None)
