"""A service with all four kinds of calls, described in code: the shared parts need no product proto."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import StringValue

SERVICE = "ilf.test.v1.DemoService"


class DemoServicer:
    """Echoes; the text `raise` raises `error`, the text `wait` waits until the call is cancelled."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.waiting = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()
        self.calls = 0

    async def answer(self, text: str) -> StringValue:
        self.calls += 1
        if text == "raise" and self.error is not None:
            raise self.error
        if text == "wait":
            self.waiting.set()
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return StringValue(value=text)

    async def unary_unary(self, request: StringValue, context: Any) -> StringValue:
        return await self.answer(request.value)

    async def unary_stream(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        yield StringValue(value="first")
        yield await self.answer(request.value)

    async def stream_unary(self, requests: AsyncIterator[StringValue], context: Any) -> StringValue:
        texts = [request.value async for request in requests]
        return await self.answer("".join(texts))

    async def stream_stream(self, requests: AsyncIterator[StringValue], context: Any) -> AsyncIterator[StringValue]:
        async for request in requests:
            yield await self.answer(request.value)

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        handlers = {
            "UnaryUnary": grpc.unary_unary_rpc_method_handler(self.unary_unary, **CODEC),
            "UnaryStream": grpc.unary_stream_rpc_method_handler(self.unary_stream, **CODEC),
            "StreamUnary": grpc.stream_unary_rpc_method_handler(self.stream_unary, **CODEC),
            "StreamStream": grpc.stream_stream_rpc_method_handler(self.stream_stream, **CODEC),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        return [SERVICE]


CODEC = {"request_deserializer": StringValue.FromString, "response_serializer": StringValue.SerializeToString}
CLIENT_CODEC = {"request_serializer": StringValue.SerializeToString, "response_deserializer": StringValue.FromString}


def methods(channel: grpc.aio.Channel) -> dict[str, Any]:
    return {
        "UnaryUnary": channel.unary_unary(f"/{SERVICE}/UnaryUnary", **CLIENT_CODEC),
        "UnaryStream": channel.unary_stream(f"/{SERVICE}/UnaryStream", **CLIENT_CODEC),
        "StreamUnary": channel.stream_unary(f"/{SERVICE}/StreamUnary", **CLIENT_CODEC),
        "StreamStream": channel.stream_stream(f"/{SERVICE}/StreamStream", **CLIENT_CODEC),
    }


async def send(channel: grpc.aio.Channel, kind: str, text: str, timeout: float = 5.0) -> list[str]:
    """Calls one kind with one text and answers all responses' texts."""
    from ilf_common.rpc.client import call, stream

    request: Any = StringValue(value=text)
    if kind.startswith("Stream"):
        request = iter([request])
    method = methods(channel)[kind]
    if kind.endswith("Unary"):
        return [(await call(method, request, timeout=timeout)).value]
    return [response.value async for response in stream(method, request, timeout=timeout)]


KINDS = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")
