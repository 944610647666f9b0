"""A cluster of a few values, whose pods echo what they are sent, after their own name."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ilf_client.cluster.ports import Claim, Nodes, Permission, Pod, Service, Socket, StorageClass
from ilf_client.cluster.release import COMPONENTS
from ilf_client.endpoints import DEFAULT_PORTS
from ilf_common.errors import IlfError, UnavailableError

ALL_APIS = (
    "keda.sh/v1alpha1",
    "ray.io/v1",
    "kueue.x-k8s.io/v1beta2",
    "jobset.x-k8s.io/v1alpha2",
    "cert-manager.io/v1",
    "metrics.k8s.io/v1beta1",
    "monitoring.coreos.com/v1",
)


def labels(component: str, release: str = "ilf", version: str = "0.1.0") -> dict[str, str]:
    return {
        "helm.sh/chart": "ilf-0.1.0",
        "app.kubernetes.io/name": "ilf",
        "app.kubernetes.io/instance": release,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/version": version,
        "app.kubernetes.io/part-of": "ilf",
    }


def release_services(release: str = "ilf", version: str = "0.1.0") -> list[Service]:
    return [
        Service(
            f"{release}-{service}",
            labels(component, release, version),
            {"app.kubernetes.io/component": component},
            {"grpc": DEFAULT_PORTS[service], "metrics": 1},
        )
        for service, component in COMPONENTS.items()
    ]


def certificate(days: float) -> bytes:
    """A PEM certificate that is valid for so many days."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ilf")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=400))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    return signed.public_bytes(serialization.Encoding.PEM)


class FakeCluster:
    """Implements `ilf_client.cluster.ports.Cluster`; everything may be changed.

    Attributes:
        pods_by_component: Pods of each component.
        forbidden: What nobody may do.
        failures: Errors by the method's name, raised instead of an answer.
    """

    def __init__(self) -> None:
        self.namespace = "here"
        self.kubernetes = "v1.34.4"
        self.apis = set(ALL_APIS)
        self.all_services = release_services()
        self.pods_by_component = {component: [Pod(f"{component}-0", True)] for component in COMPONENTS.values()}
        self.all_claims = [Claim("ilf-artifacts", "Bound")]
        self.secrets: dict[str, dict[str, bytes]] = {
            "ilf-tls": {"tls.crt": certificate(90)},
            "ilf-client-tls": {"tls.crt": certificate(90), "tls.key": b"key", "ca.crt": b"authority"},
            "ilf-token": {"token": b"secret"},
        }
        self.all_nodes = Nodes(2, 2, {"nvidia.com/gpu": 8})
        self.classes = [StorageClass("standard", "local", True)]
        self.forbidden: set[Permission] = set()
        self.failures: dict[str, IlfError] = {}
        self._pods_ends: dict[str, list[socket.socket]] = {}

    def version(self) -> str:
        self._fail("version")
        return self.kubernetes

    def api_versions(self) -> frozenset[str]:
        return frozenset(self.apis)

    def services(self, labels: Mapping[str, str]) -> Sequence[Service]:
        self._fail("services")
        return [one for one in self.all_services if labels.items() <= one.labels.items()]

    def pods(self, labels: Mapping[str, str]) -> Sequence[Pod]:
        self._fail("pods")
        component = labels.get("app.kubernetes.io/component")
        return [pod for name, pods in self.pods_by_component.items() if component in (None, name) for pod in pods]

    def claims(self, labels: Mapping[str, str]) -> Sequence[Claim]:
        return self.all_claims

    def secret(self, name: str) -> Mapping[str, bytes] | None:
        self._fail("secret")
        return self.secrets.get(name)

    def nodes(self) -> Nodes:
        self._fail("nodes")
        return self.all_nodes

    def storage_classes(self) -> Sequence[StorageClass]:
        return self.classes

    def may(self, permission: Permission) -> bool:
        return permission not in self.forbidden

    def dial(self, pod: str, port: int) -> Socket:
        if not any(pod == one.name for pods in self.pods_by_component.values() for one in pods):
            raise UnavailableError(f"the pod {pod} is gone")
        ours, theirs = socket.socketpair()
        self._pods_ends.setdefault(pod, []).append(theirs)
        threading.Thread(target=_echo, args=(theirs, f"{pod}:{port} ".encode()), daemon=True).start()
        return ours

    def end_pod(self, component: str, successor: str) -> None:
        """A pod goes, with all its connections; another one comes."""
        (gone,) = self.pods_by_component[component]
        self.pods_by_component[component] = [Pod(successor, True)]
        for end in self._pods_ends.pop(gone.name, []):
            end.shutdown(socket.SHUT_RDWR)

    def _fail(self, method: str) -> None:
        if method in self.failures:
            raise self.failures[method]


def _echo(end: socket.socket, name: bytes) -> None:
    with end:
        while data := end.recv(1 << 16):
            end.sendall(name + data)
