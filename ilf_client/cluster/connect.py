"""Makes the services of a release reachable from this machine."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from ilf_client.cluster.forwarding import Forwarder
from ilf_client.cluster.ports import Cluster, Service, Socket
from ilf_client.cluster.release import Release
from ilf_client.connection import forget_connection, write_connection, write_secrets
from ilf_client.endpoints import DEFAULT_PORTS, Endpoints, Security
from ilf_common.errors import IlfError, NotFoundError, UnavailableError

REFRESH_SECONDS = 30.0
_PORT = "grpc"
_TLS_FILES = {"tls_ca_file": "ca.crt", "tls_cert_file": "tls.crt", "tls_key_file": "tls.key"}


class SecretNames:
    """Where a release keeps what clients need; a name that was given must exist, the chart's own may be missing."""

    def __init__(self, release: Release, tls: str | None = None, token: str | None = None) -> None:
        self._tls = (tls or f"{release.fullname}-client-tls", tls is not None)
        self._token = (token or f"{release.fullname}-token", token is not None)

    def read(self, cluster: Cluster) -> dict[str, bytes]:
        """Contents by field of `Security`; nothing of what the release does without.

        Raises:
            NotFoundError: A Secret that was named does not exist.
        """
        tls, token = _read(cluster, *self._tls), _read(cluster, *self._token)
        found = {field: tls[key] for field, key in _TLS_FILES.items() if key in tls}
        if token:
            found["token_file"] = token.get("token") or next(iter(token.values()))
        return found


class Bridge:
    """Ports of this machine that lead to a release, and the file that tells other commands of them.

    Args:
        cluster: Where the release is.
        release: What is connected to.
        secrets: Where its secrets are.
        state_dir: Where the connection is written down.
        tell: Called with what goes wrong while it is open.
    """

    def __init__(
        self,
        cluster: Cluster,
        release: Release,
        secrets: SecretNames,
        state_dir: Path,
        tell: Callable[[IlfError], None],
    ) -> None:
        self._cluster = cluster
        self._release = release
        self._secrets = secrets
        self._state_dir = state_dir
        self._tell = tell
        self._forwarders: dict[str, Forwarder] = {}
        self._open = ExitStack()

    @property
    def endpoints(self) -> Endpoints:
        """Where the services are on this machine; one that the release lacks keeps its default address."""
        return Endpoints(**{name: forwarder.address for name, forwarder in self._forwarders.items()})

    def open(self) -> Security:
        """Opens the ports and writes everything down; answers how clients prove who they are."""
        with ExitStack() as opening:
            security = write_secrets(self._state_dir, self._secrets.read(self._cluster))
            opening.callback(forget_connection, self._state_dir)
            for name, service in self._release.services.items():
                forwarder = Forwarder(lambda service=service: self._dial(service), self._tell, DEFAULT_PORTS[name])  # type: ignore[misc]
                opening.callback(forwarder.stop)
                self._forwarders[name] = forwarder
            write_connection(self._state_dir, self.endpoints, security)
            self._open = opening.pop_all()
        return security

    def keep(self, stopping: threading.Event) -> None:
        """Returns when it is told to stop; until then renewed certificates and tokens are fetched."""
        while not stopping.wait(REFRESH_SECONDS):
            try:
                write_secrets(self._state_dir, self._secrets.read(self._cluster))
            except IlfError as error:
                self._tell(error)

    def close(self) -> None:
        """Closes the ports and deletes what was written."""
        self._open.close()

    def _dial(self, service: Service) -> Socket:
        ready = [pod.name for pod in self._cluster.pods(service.selector) if pod.ready]
        if not ready:
            raise UnavailableError(f"{service.name} has no ready pod at the moment.", reason="NO_READY_POD")
        return self._cluster.dial(random.choice(ready), service.ports[_PORT])


def _read(cluster: Cluster, name: str, wanted: bool) -> Mapping[str, bytes]:
    content = cluster.secret(name)
    if content is None and wanted:
        raise NotFoundError(
            f"There is no Secret {name} in the namespace {cluster.namespace}.",
            resource_type="secret",
            resource_name=name,
            reason="SECRET_NOT_FOUND",
        )
    return content or {}
