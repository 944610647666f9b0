"""`ilf connect` and `ilf doctor --cluster` on a real API server, with pods that echo in the place of services."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from ilf_client.cluster.api import KubernetesCluster
from ilf_client.cluster.checks import diagnose_cluster
from ilf_client.cluster.connect import Bridge, SecretNames
from ilf_client.cluster.ports import Permission
from ilf_client.cluster.release import find_release
from ilf_client.diagnosis import Verdict
from ilf_common.errors import IlfError, InvalidArgumentError, NotFoundError, PermissionDeniedError
from tests.fakes.cluster import certificate, labels

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="there is no cluster: KUBECONFIG is not set"),
]
IMAGE = os.environ.get("ILF_TEST_SCRIPT_IMAGE", "busybox:1.35")
PORT = 50055
LABELS = labels("orchestrator")
SECONDS = 60.0


@pytest.fixture
def namespace() -> Iterator[str]:
    config.load_kube_config()
    name = f"ilf-connect-{uuid.uuid4().hex[:6]}"
    core = client.CoreV1Api()
    core.create_namespace({"metadata": {"name": name}})
    yield name
    core.delete_namespace(name)


@pytest.fixture
def release(namespace: str) -> str:
    """An orchestrator that echoes, as the chart would name it; answers the namespace."""
    core = client.CoreV1Api()
    ports = [{"name": "grpc", "port": PORT}]
    service = {"metadata": {"name": "ilf-orchestrator", "labels": LABELS}, "spec": {"selector": LABELS, "ports": ports}}
    core.create_namespaced_service(namespace, service)
    secrets = {"ilf-client-tls": {"tls.crt": certificate(3).decode(), "tls.key": "key", "ca.crt": "authority"}}
    secrets["ilf-token"] = {"token": "secret"}
    for name, content in secrets.items():
        core.create_namespaced_secret(namespace, {"metadata": {"name": name}, "stringData": content})
    make_pod(namespace, "first")
    return namespace


def make_pod(namespace: str, name: str, image: str = IMAGE) -> None:
    container = {
        "name": "echo",
        "image": image,
        "command": ["sh", "-c", f"while true; do nc -l -p {PORT} -e sh -c 'hostname; exec cat'; done"],
        # Ready when it listens; a probe that connects would take the place of the test's connection.
        "readinessProbe": {
            "exec": {"command": ["grep", "-q", f":{PORT:X} 0", "/proc/net/tcp", "/proc/net/tcp6"]},
            "periodSeconds": 1,
        },
    }
    pod = {
        "metadata": {"name": name, "labels": LABELS},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False},
    }
    client.CoreV1Api().create_namespaced_pod(namespace, pod)


def wait_for_ready(cluster: KubernetesCluster, name: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not any(pod.name == name and pod.ready for pod in cluster.pods(LABELS)):
        assert time.monotonic() < deadline, cluster.pods(LABELS)
        time.sleep(0.2)


class Line:
    """A connection to the bridge's port of the orchestrator."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=SECONDS)
        self._file: Any = self._socket.makefile("rb")

    def read(self) -> str:
        return str(self._file.readline().decode().strip())

    def ask(self, line: str) -> str:
        self._socket.sendall(f"{line}\n".encode())
        return self.read()


def test_a_port_follows_the_pods_and_closes_when_they_go(release: str, tmp_path: Path) -> None:
    cluster = KubernetesCluster(release)
    wait_for_ready(cluster, "first")
    found = find_release(cluster)
    told: list[IlfError] = []
    bridge = Bridge(cluster, found, SecretNames(found), tmp_path, told.append)
    security = bridge.open()
    try:
        assert security.token_file is not None and security.token_file.read_text() == "secret"
        first = Line(bridge.endpoints.orchestrator)
        assert (first.read(), first.ask("hello")) == ("first", "hello")
        make_pod(release, "second")
        client.CoreV1Api().delete_namespaced_pod("first", release, grace_period_seconds=0)
        assert first.read() == "", "the connection outlived its pod"
        wait_for_ready(cluster, "second")
        second = Line(bridge.endpoints.orchestrator)
        assert (second.read(), second.ask("again")) == ("second", "again")
        blob = "x" * 1_000_000
        assert second.ask(blob) == blob
    finally:
        bridge.close()


def test_the_doctor_sees_the_release_and_what_ails_it(release: str) -> None:
    cluster = KubernetesCluster(release)
    wait_for_ready(cluster, "first")
    make_pod(release, "broken", image="localhost:1/none/there:1")
    deadline = time.monotonic() + SECONDS
    while not any("ImagePull" in pod.trouble for pod in cluster.pods(LABELS)):
        assert time.monotonic() < deadline, cluster.pods(LABELS)
        time.sleep(0.2)
    findings = {finding.subject: finding for finding in diagnose_cluster(cluster, None)}
    assert findings["kubernetes"].verdict is Verdict.OK
    assert findings["may connect"].verdict is Verdict.OK
    assert findings["release"].text == "ilf: ilf-0.1.0, services 0.1.0"
    assert "ImagePull" in findings["pod"].text and "broken" in findings["pod"].text
    assert "expires in 2 days" in findings["ilf-client-tls"].text
    assert findings["training"].verdict is Verdict.PROBLEM, "there is no Role of the controller here"


def test_what_a_user_may_not_do_is_said(namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core = client.CoreV1Api()
    core.create_namespaced_service_account(namespace, {"metadata": {"name": "nobody"}})
    request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[]))
    token = core.create_namespaced_service_account_token("nobody", namespace, request).status.token
    _kubeconfig(tmp_path / "nobody.yaml", token)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nobody.yaml"))
    monkeypatch.setattr(config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "nobody.yaml"))
    cluster = KubernetesCluster(namespace)
    with pytest.raises(PermissionDeniedError, match="list services"):
        find_release(cluster)
    assert not cluster.may(Permission("create", "pods/portforward"))
    findings = {finding.subject: finding for finding in diagnose_cluster(cluster, None)}
    assert "create pods/portforward" in findings["may connect"].text
    assert findings["kubernetes"].verdict is Verdict.OK


def test_what_is_not_there_is_named(namespace: str) -> None:
    with pytest.raises(NotFoundError, match=namespace):
        find_release(KubernetesCluster(namespace))
    assert KubernetesCluster(namespace).secret("none") is None
    with pytest.raises(InvalidArgumentError, match="no-such-context"):
        KubernetesCluster(namespace, context="no-such-context")


def _kubeconfig(path: Path, token: str) -> None:
    import yaml

    present: dict[str, Any] = yaml.safe_load(Path(os.environ["KUBECONFIG"].split(os.pathsep)[0]).read_text())
    present["users"] = [{"name": user["name"], "user": {"token": token}} for user in present["users"]]
    path.write_text(yaml.safe_dump(present))
