"""Tokens, TLS and client certificates."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ilf_common.errors import UnauthenticatedError, UnavailableError
from ilf_common.rpc.client import ChannelSettings, call, open_channel
from ilf_common.rpc.files import WatchedFile
from ilf_common.rpc.health import HealthServicer
from ilf_common.rpc.interceptor import CallInterceptor
from ilf_common.rpc.server import bind, new_server
from ilf_common.settings import ServerSettings
from tests.certificates import Authority, write
from tests.fakes.demo_service import SERVICE, DemoServicer, send

HealthStub: Any = health_pb2_grpc.HealthStub


@asynccontextmanager
async def guarded_server(settings: ServerSettings, servicer: DemoServicer | None = None) -> AsyncIterator[str]:
    token = WatchedFile(settings.token_file) if settings.token_file else None
    server = new_server(settings, CallInterceptor("test", token=token))
    (servicer or DemoServicer()).register(server)
    health = HealthServicer([SERVICE])
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = bind(server, settings)
    await server.start()
    await health.set_serving(True)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def test_only_the_right_token_is_let_in_and_health_needs_none(tmp_path: Path) -> None:
    good, wrong = write(tmp_path / "good", "abc\n"), write(tmp_path / "wrong", "abd")
    async with guarded_server(ServerSettings(port=0, token_file=good)) as address:
        async with open_channel(ChannelSettings(address=address, token_file=good)) as channel:
            assert await send(channel, "UnaryStream", "a") == ["first", "a"]
        async with open_channel(ChannelSettings(address=address, token_file=wrong)) as channel:
            with pytest.raises(UnauthenticatedError) as caught:
                await send(channel, "UnaryUnary", "a")
            assert caught.value.reason == "TOKEN_INVALID"
        async with open_channel(ChannelSettings(address=address)) as channel:
            with pytest.raises(UnauthenticatedError) as caught:
                await send(channel, "UnaryUnary", "a")
            assert caught.value.reason == "TOKEN_MISSING"
            status = await call(HealthStub(channel).Check, health_pb2.HealthCheckRequest(service=SERVICE), timeout=5)
            assert status.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_replaced_token_counts_without_a_restart(tmp_path: Path) -> None:
    token, old = write(tmp_path / "token", "first"), write(tmp_path / "old", "first")
    async with guarded_server(ServerSettings(port=0, token_file=token)) as address:
        write(tmp_path / "new", "second").rename(token)
        async with open_channel(ChannelSettings(address=address, token_file=token)) as channel:
            assert await send(channel, "UnaryUnary", "a") == ["a"]
        async with open_channel(ChannelSettings(address=address, token_file=old)) as channel:
            with pytest.raises(UnauthenticatedError):
                await send(channel, "UnaryUnary", "a")


async def test_tokens_are_rotated_without_a_refused_call(tmp_path: Path) -> None:
    """Server and caller learn of each step at any time, so each may be one step ahead of the other."""
    steps = ["old", "old\nnew", "new\nold", "new\n"]
    pairs = list(itertools.pairwise(steps))
    for ours, theirs in [*pairs, *(pair[::-1] for pair in pairs)]:
        server, caller = write(tmp_path / "server", ours), write(tmp_path / "caller", theirs)
        async with (
            guarded_server(ServerSettings(port=0, token_file=server)) as address,
            open_channel(ChannelSettings(address=address, token_file=caller)) as channel,
        ):
            await send(channel, "UnaryUnary", "a")


async def test_an_empty_token_file_lets_nobody_in(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty", "")
    async with (
        guarded_server(ServerSettings(port=0, token_file=empty)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        with pytest.raises(UnauthenticatedError):
            await send(channel, "UnaryUnary", "a")


async def test_tls_round_trip_and_a_stranger_s_certificate_is_not_believed(tmp_path: Path) -> None:
    ours, strangers = Authority(tmp_path, "ours"), Authority(tmp_path, "strangers")
    certificate, key = ours.issue("server")
    async with guarded_server(ServerSettings(port=0, tls_cert_file=certificate, tls_key_file=key)) as address:
        async with open_channel(ChannelSettings(address=address, tls_ca_file=ours.file)) as channel:
            assert await send(channel, "UnaryUnary", "a") == ["a"]
        async with open_channel(ChannelSettings(address=address, tls_ca_file=strangers.file)) as channel:
            with pytest.raises(UnavailableError):
                await send(channel, "UnaryUnary", "a")


async def test_a_client_without_a_certificate_is_kept_out_where_one_is_asked_for(tmp_path: Path) -> None:
    ours = Authority(tmp_path, "ours")
    certificate, key = ours.issue("server")
    client_certificate, client_key = ours.issue("client")
    settings = ServerSettings(port=0, tls_cert_file=certificate, tls_key_file=key, tls_client_ca_file=ours.file)
    async with guarded_server(settings) as address:
        known = ChannelSettings(
            address=address, tls_ca_file=ours.file, tls_cert_file=client_certificate, tls_key_file=client_key
        )
        async with open_channel(known) as channel:
            assert await send(channel, "UnaryUnary", "a") == ["a"]
        async with open_channel(ChannelSettings(address=address, tls_ca_file=ours.file)) as channel:
            with pytest.raises(UnavailableError):
                await send(channel, "UnaryUnary", "a")


async def test_a_renewed_certificate_is_served_without_a_restart(tmp_path: Path) -> None:
    first, second = Authority(tmp_path, "first"), Authority(tmp_path, "second")
    certificate, key = first.issue("server")
    async with guarded_server(ServerSettings(port=0, tls_cert_file=certificate, tls_key_file=key)) as address:
        new_certificate, new_key = second.issue("renewed")
        new_key.rename(key)
        new_certificate.rename(certificate)
        async with open_channel(ChannelSettings(address=address, tls_ca_file=second.file)) as channel:
            assert await send(channel, "UnaryUnary", "a") == ["a"]


async def test_a_client_picks_up_renewed_authorities_and_keeps_the_calls_that_run(tmp_path: Path) -> None:
    """What cert-manager or the chart replaces in place counts from the next call on; nobody restarts the client."""
    first, second = Authority(tmp_path, "first"), Authority(tmp_path, "second")
    certificate, key = first.issue("server")
    trusted = write(tmp_path / "ca.crt", first.file.read_bytes())
    servicer = DemoServicer()
    settings = ServerSettings(port=0, tls_cert_file=certificate, tls_key_file=key)
    async with (
        guarded_server(settings, servicer) as address,
        open_channel(ChannelSettings(address=address, tls_ca_file=trusted)) as channel,
    ):
        running = asyncio.create_task(send(channel, "UnaryStream", "wait"))
        await servicer.waiting.wait()
        new_certificate, new_key = second.issue("renewed")
        new_key.rename(key)
        new_certificate.rename(certificate)
        write(tmp_path / "new", second.file.read_bytes()).rename(trusted)
        assert await send(channel, "UnaryUnary", "after") == ["after"]
        assert not running.done()
        servicer.release.set()
        assert await running == ["first", "wait"]


async def test_a_client_shows_its_renewed_certificate(tmp_path: Path) -> None:
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    certificate, key = new.issue("server")
    shown, shown_key = old.issue("client")
    settings = ServerSettings(port=0, tls_cert_file=certificate, tls_key_file=key, tls_client_ca_file=new.file)
    async with guarded_server(settings) as address:
        known = ChannelSettings(address=address, tls_ca_file=new.file, tls_cert_file=shown, tls_key_file=shown_key)
        async with open_channel(known) as channel:
            with pytest.raises(UnavailableError):
                await send(channel, "UnaryUnary", "a")
            renewed, renewed_key = new.issue("renewed")
            renewed_key.rename(shown_key)
            renewed.rename(shown)
            assert await send(channel, "UnaryUnary", "a") == ["a"]


async def test_certificates_that_vanish_leave_the_present_channel_in_use(tmp_path: Path) -> None:
    ours = Authority(tmp_path, "ours")
    certificate, key = ours.issue("server")
    async with (
        guarded_server(ServerSettings(port=0, tls_cert_file=certificate, tls_key_file=key)) as address,
        open_channel(ChannelSettings(address=address, tls_ca_file=ours.file)) as channel,
    ):
        assert await send(channel, "UnaryUnary", "a") == ["a"]
        ours.file.unlink()
        assert await send(channel, "UnaryUnary", "b") == ["b"]


async def test_a_channel_may_expect_another_name_than_its_address(tmp_path: Path) -> None:
    """One of many addresses behind a name is spoken to under that name."""
    ours = Authority(tmp_path, "ours")
    certificate, key = ours.issue("server", name="workers.example")
    async with guarded_server(ServerSettings(port=0, tls_cert_file=certificate, tls_key_file=key)) as address:
        settings = ChannelSettings(address=address, tls_ca_file=ours.file)
        async with open_channel(settings, server_name="workers.example") as channel:
            assert await send(channel, "UnaryUnary", "a") == ["a"]
        async with open_channel(settings) as channel:
            with pytest.raises(UnavailableError):
                await send(channel, "UnaryUnary", "a")
