"""`ilf connect`: ports that follow the pods, secrets that follow the cluster, and nothing left behind."""

from __future__ import annotations

import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ilf_client.cli.addresses import access, reachable_store
from ilf_client.cluster.connect import Bridge, SecretNames
from ilf_client.cluster.forwarding import Forwarder
from ilf_client.cluster.release import find_release
from ilf_client.connection import read_connection
from ilf_client.endpoints import Endpoints, Security
from ilf_common.errors import IlfError, NotFoundError
from tests.fakes.cluster import FakeCluster
from tests.support import free_ports


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def told() -> list[IlfError]:
    return []


@pytest.fixture
def bridge(cluster: FakeCluster, tmp_path: Path, told: list[IlfError]) -> Iterator[Bridge]:
    release = find_release(cluster)
    bridge = Bridge(cluster, release, SecretNames(release), tmp_path, told.append)
    bridge.open()
    yield bridge
    bridge.close()


def dialled(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def asked(connection: socket.socket, question: bytes = b"hello") -> bytes:
    connection.sendall(question)
    return connection.recv(1000)


def test_each_port_leads_to_a_pod_of_its_service(bridge: Bridge) -> None:
    with dialled(bridge.endpoints.refinement) as one, dialled(bridge.endpoints.orchestrator) as other:
        assert asked(one) == b"refinement-front-0:50051 hello"
        assert asked(other) == b"orchestrator-0:50055 hello"


def test_when_a_pod_goes_its_connections_end_and_the_next_one_reaches_its_successor(
    bridge: Bridge, cluster: FakeCluster
) -> None:
    with dialled(bridge.endpoints.finetune) as connection:
        asked(connection)
        cluster.end_pod("finetune", "finetune-1")
        assert connection.recv(10) == b""
    with dialled(bridge.endpoints.finetune) as connection:
        assert asked(connection) == b"finetune-1:50054 hello"


def test_without_a_ready_pod_a_connection_is_closed_and_told(
    bridge: Bridge, cluster: FakeCluster, told: list[IlfError]
) -> None:
    cluster.pods_by_component["reward-front"] = []
    with dialled(bridge.endpoints.reward) as connection:
        assert connection.recv(10) == b""
    assert [error.reason for error in told] == ["NO_READY_POD"]


def test_other_commands_find_the_connection_and_send_their_data_through_it(
    bridge: Bridge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ILF_STATE_DIR", str(tmp_path))
    places, security = access(None)
    assert places == bridge.endpoints
    assert security.token_file is not None and security.token_file.read_bytes() == b"secret"
    assert reachable_store(None) is None
    assert access("elsewhere:1") == (Endpoints.at("elsewhere:1"), Security())
    monkeypatch.setenv("ILF_TOKEN_FILE", "/own")
    assert access(None)[1] == Security(token_file=Path("/own"))


def test_secrets_are_readable_by_their_owner_alone(bridge: Bridge, tmp_path: Path) -> None:
    files = list((tmp_path / "connection").iterdir())
    assert {file.name for file in files} == {"tls_ca_file", "tls_cert_file", "tls_key_file", "token_file"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "connection").stat().st_mode) == 0o700


def test_nothing_is_left_of_a_closed_connection(bridge: Bridge, tmp_path: Path) -> None:
    address = bridge.endpoints.ranking
    bridge.close()
    assert read_connection(tmp_path) is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with pytest.raises(ConnectionRefusedError):
        dialled(address)


def test_renewed_secrets_are_fetched_while_it_runs(
    bridge: Bridge, cluster: FakeCluster, tmp_path: Path, told: list[IlfError], monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = _Rounds(2)
    cluster.secrets["ilf-token"] = {"token": b"another"}
    bridge.keep(rounds)
    assert (tmp_path / "connection" / "token_file").read_bytes() == b"another"
    cluster.failures["secret"] = NotFoundError("away", resource_type="secret", resource_name="x")
    bridge.keep(_Rounds(1))
    assert [error.message for error in told] == ["away"]


def test_a_release_without_tls_and_token_needs_neither(cluster: FakeCluster, tmp_path: Path) -> None:
    cluster.secrets = {}
    release = find_release(cluster)
    bridge = Bridge(cluster, release, SecretNames(release), tmp_path, lambda error: None)
    assert bridge.open() == Security()
    bridge.close()


def test_a_named_secret_that_is_missing_is_refused_and_leaves_nothing(cluster: FakeCluster, tmp_path: Path) -> None:
    release = find_release(cluster)
    bridge = Bridge(cluster, release, SecretNames(release, token="mine"), tmp_path, lambda error: None)
    with pytest.raises(NotFoundError, match="Secret mine"):
        bridge.open()
    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_is_replaced_by_a_free_one() -> None:
    (port,) = free_ports(1)
    forwarders = [Forwarder(_never, lambda error: None, port) for _ in range(2)]
    addresses = [forwarder.address for forwarder in forwarders]
    for forwarder in forwarders:
        forwarder.stop()
    assert addresses[0] == f"127.0.0.1:{port}" and addresses[1] != addresses[0]


def _never() -> socket.socket:
    raise AssertionError("nobody dialled")


class _Rounds(threading.Event):
    """Lets a number of rounds pass without waiting."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self._rounds = rounds

    def wait(self, timeout: float | None = None) -> bool:
        self._rounds -= 1
        return self._rounds < 0
