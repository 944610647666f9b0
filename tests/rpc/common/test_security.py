"""Tokens, TLS and client certificates."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ilf_common.errors import UnauthenticatedError, UnavailableError
from ilf_common.rpc.client import ChannelSettings, call, open_channel
from ilf_common.rpc.files import WatchedFile
from ilf_common.rpc.health import HealthServicer
from ilf_common.rpc.interceptor import CallInterceptor
from ilf_common.rpc.server import bind, new_server
from ilf_common.settings import ServerSettings
from tests.fakes.demo_service import SERVICE, DemoServicer, send

HealthStub: Any = health_pb2_grpc.HealthStub


@asynccontextmanager
async def guarded_server(settings: ServerSettings) -> AsyncIterator[str]:
    token = WatchedFile(settings.token_file) if settings.token_file else None
    server = new_server(settings, CallInterceptor("test", token=token))
    DemoServicer().register(server)
    health = HealthServicer([SERVICE])
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = bind(server, settings)
    await server.start()
    await health.set_serving(True)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


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


async def test_an_empty_token_file_lets_nobody_in(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty", "")
    async with (
        guarded_server(ServerSettings(port=0, token_file=empty)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        with pytest.raises(UnauthenticatedError):
            await send(channel, "UnaryUnary", "a")


class Authority:
    """Signs certificates for 127.0.0.1."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key, authority=True)
        self.file = write(folder / f"{name}.pem", self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key, authority=False)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return (
            write(self.folder / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM)),
            write(self.folder / f"{name}.key", pem),
        )

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            .sign(self.key, hashes.SHA256())
        )


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
