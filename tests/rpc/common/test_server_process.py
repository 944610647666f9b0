"""A server in a process of its own: signals, ports, failed starts."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from ilf_common.errors import UnavailableError
from ilf_common.rpc.client import ChannelSettings, open_channel, stream
from tests.fakes.demo_service import methods, send
from tests.support import running_server

ROOT = Path(__file__).resolve().parents[3]
HealthStub: Any = health_pb2_grpc.HealthStub
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@asynccontextmanager
async def process(*arguments: str, **settings: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.fakes.demo_server",
        json.dumps({"port": 0, **settings}),
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def ready_port(running: asyncio.subprocess.Process) -> int:
    assert running.stdout is not None
    async for line in running.stdout:
        if line.startswith(b"READY "):
            return int(line.split()[1])
    raise AssertionError("the server ended before it was ready")


async def rest(running: asyncio.subprocess.Process) -> list[str]:
    assert running.stdout is not None
    return (await running.stdout.read()).decode().splitlines()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_sigterm_lets_the_running_call_finish_refuses_new_ones_and_exits_0() -> None:
    async with process("release-on-drain", drain_seconds=10) as server:
        port = await ready_port(server)
        async with open_channel(ChannelSettings(address=f"127.0.0.1:{port}")) as channel:
            watch = HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == SERVING
            in_flight = stream(methods(channel)["UnaryStream"], StringValue(value="wait"), timeout=20)
            assert (await anext(in_flight)).value == "first"
            server.send_signal(signal.SIGTERM)
            assert [message.status async for message in watch] == [NOT_SERVING]
            assert [response.value async for response in in_flight] == ["wait"]
            async with open_channel(ChannelSettings(address=f"127.0.0.1:{port}")) as late:
                with pytest.raises(UnavailableError):
                    await send(late, "UnaryUnary", "hello")
        assert "STOPPED" in await rest(server)
        assert await server.wait() == 0


async def test_sigusr1_drains_and_starts_anew_in_the_same_process() -> None:
    async with process() as server:
        await ready_port(server)
        server.send_signal(signal.SIGUSR1)
        port = await ready_port(server)
        async with open_channel(ChannelSettings(address=f"127.0.0.1:{port}")) as channel:
            assert await send(channel, "UnaryUnary", "hello") == ["hello"]
        server.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(server.wait(), 10) == 0


async def test_a_call_that_never_ends_is_cut_off_after_the_grace() -> None:
    async with process(drain_seconds=0.3) as server:
        port = await ready_port(server)
        async with open_channel(ChannelSettings(address=f"127.0.0.1:{port}")) as channel:
            endless = stream(methods(channel)["UnaryStream"], StringValue(value="wait"), timeout=20)
            assert (await anext(endless)).value == "first"
            server.send_signal(signal.SIGTERM)
            with pytest.raises(UnavailableError):
                await anext(endless)
        assert await asyncio.wait_for(server.wait(), 10) == 0


async def test_a_library_that_takes_the_signals_while_starting_does_not_get_them() -> None:
    async with process("takes-signals") as server:
        await ready_port(server)
        server.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(server.wait(), 10) == 0


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OpenTelemetry collector."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    async def Export(self, request: Any, context: Any) -> trace_service_pb2.ExportTraceServiceResponse:
        self.spans += [
            span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
        ]
        return trace_service_pb2.ExportTraceServiceResponse()

    def register(self, server: grpc.aio.Server) -> list[str]:
        add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
        add(self, server)
        return []


async def test_spans_reach_a_configured_collector_under_the_callers_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    collector = Collector()
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    async with running_server(collector.register) as address:
        monkeypatch.setenv("DEMO_COLLECTOR", f"http://{address}")
        async with process() as server:
            port = await ready_port(server)
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                method = methods(channel)["UnaryUnary"]
                metadata = (("traceparent", f"00-{trace_id}-b7ad6b7169203331-01"),)
                await method(StringValue(value="a secret text"), metadata=metadata)
            server.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(server.wait(), 20) == 0
    (span,) = collector.spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (trace_id, "b7ad6b7169203331")
    assert span.name == "ilf.test.v1.DemoService/UnaryUnary"
    assert "secret" not in str(span)


async def test_a_port_in_use_is_told_plainly() -> None:
    async with process() as first:
        port = await ready_port(first)
        async with process(port=port) as second:
            lines = await rest(second)
            assert await second.wait() == 1
        assert any("Nobody can listen" in line and str(port) in line and "PORT_IN_USE" in line for line in lines)


async def test_a_metrics_port_in_use_is_told_plainly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with process(metrics_port=taken.getsockname()[1]) as server:
            lines = await rest(server)
            assert await server.wait() == 1
    assert any("server.metrics_port" in line for line in lines)


async def test_probes_are_answered_in_plain_text_without_a_token(tmp_path: Path) -> None:
    probe_port, token = free_port(), tmp_path / "token"
    token.write_text("secret")
    async with process("release-on-drain", health_port=probe_port, token_file=str(token), drain_seconds=10) as server:
        port = await ready_port(server)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{probe_port}") as channel:
            check = HealthStub(channel).Check
            for service in ("", "ilf.test.v1.DemoService", "liveness"):
                assert (await check(health_pb2.HealthCheckRequest(service=service))).status == SERVING
            with pytest.raises(grpc.RpcError) as caught:
                await methods(channel)["UnaryUnary"](StringValue(value="a"))
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

            security = ChannelSettings(address=f"127.0.0.1:{port}", token_file=token)
            async with open_channel(security) as users:
                in_flight = stream(methods(users)["UnaryStream"], StringValue(value="wait"), timeout=20)
                await anext(in_flight)
                server.send_signal(signal.SIGTERM)
                assert [response.value async for response in in_flight] == ["wait"]
        assert await server.wait() == 0


async def test_a_health_port_in_use_is_told_plainly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with process(health_port=taken.getsockname()[1]) as server:
            lines = await rest(server)
            assert await server.wait() == 1
    assert any("server.health_port" in line and "PORT_IN_USE" in line for line in lines)


async def test_a_failed_start_exits_1_with_a_line_that_says_so() -> None:
    async with process("start-fails") as server:
        lines = await rest(server)
        assert await server.wait() == 1
    assert any("START_FAILED" in line for line in lines)
    assert any("the model file is gone" in line for line in lines), "the stack is in the log"


async def test_metrics_and_access_lines_count_calls_by_code() -> None:
    metrics_port = free_port()
    async with process(metrics_port=metrics_port) as server:
        port = await ready_port(server)
        async with open_channel(ChannelSettings(address=f"127.0.0.1:{port}")) as channel:
            await send(channel, "UnaryUnary", "a secret text")
        page = await asyncio.to_thread(
            lambda: urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=5).read().decode()
        )
        server.send_signal(signal.SIGTERM)
        lines = await rest(server)
    assert 'ilf_rpcs_total{code="OK",method="UnaryUnary",service="ilf.test.v1.DemoService"} 1.0' in page
    assert "ilf_rpc_seconds_bucket" in page
    access = next(json.loads(line) for line in lines if '"ilf.access"' in line)
    assert access["severity"] == "INFO" and access["code"] == "OK" and access["duration_ms"] >= 0
    assert access["service"] == "ilf.test.v1.DemoService" and access["rpc"] == "UnaryUnary"
    assert access["request_id"] and len(access["trace_id"]) == 32
    assert not any("a secret text" in line for line in lines)
