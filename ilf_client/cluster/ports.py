"""What `ilf connect` and `ilf doctor --cluster` want of a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Service:
    """A Kubernetes Service."""

    name: str
    labels: Mapping[str, str]
    selector: Mapping[str, str]
    ports: Mapping[str, int]


@dataclass(frozen=True)
class Pod:
    """A pod; `trouble` says why it is not ready, as far as Kubernetes says."""

    name: str
    ready: bool
    trouble: str = ""


@dataclass(frozen=True)
class StorageClass:
    """A storage class."""

    name: str
    provisioner: str
    is_default: bool


@dataclass(frozen=True)
class Claim:
    """A volume claim; `phase` is Bound when it has its volume."""

    name: str
    phase: str


@dataclass(frozen=True)
class Permission:
    """Something that somebody may or may not do in the namespace; `account` empty means the caller."""

    verb: str
    resource: str
    group: str = ""
    account: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"


@dataclass(frozen=True)
class Nodes:
    """The nodes together: how many are ready, and what they offer of each GPU resource."""

    ready: int
    total: int
    gpus: Mapping[str, int] = field(default_factory=dict)


class Socket(Protocol):
    """One connection."""

    def recv(self, size: int, /) -> bytes:
        """What came, empty at the end."""
        ...

    def sendall(self, data: bytes, /) -> None:
        """Sends everything."""
        ...

    def shutdown(self, how: int, /) -> None:
        """Ends one or both directions."""
        ...

    def close(self) -> None:
        """Lets go of it."""
        ...


class Cluster(Protocol):
    """One namespace of a cluster, as the kubeconfig's user sees it.

    Everything raises `UnavailableError` where the API server does not answer, and `PermissionDeniedError` or
    `UnauthenticatedError` where it refuses.
    """

    @property
    def namespace(self) -> str:
        """The namespace that is looked at."""
        ...

    def version(self) -> str:
        """Of the API server, as in `v1.34.4`."""
        ...

    def api_versions(self) -> frozenset[str]:
        """Groups with their versions, as in `batch/v1`."""
        ...

    def services(self, labels: Mapping[str, str]) -> Sequence[Service]:
        """Services with these labels."""
        ...

    def pods(self, labels: Mapping[str, str]) -> Sequence[Pod]:
        """Pods with these labels that have not ended."""
        ...

    def claims(self, labels: Mapping[str, str]) -> Sequence[Claim]:
        """Volume claims with these labels."""
        ...

    def secret(self, name: str) -> Mapping[str, bytes] | None:
        """A Secret's content, None where there is no such Secret."""
        ...

    def nodes(self) -> Nodes:
        """All nodes together."""
        ...

    def storage_classes(self) -> Sequence[StorageClass]:
        """All storage classes."""
        ...

    def may(self, permission: Permission) -> bool:
        """Whether the cluster would allow it."""
        ...

    def dial(self, pod: str, port: int) -> Socket:
        """A connection to a port of a pod, through the API server."""
        ...
