"""Where the services and the artifact store are, as far as this machine knows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ilf_client.connection import read_connection
from ilf_client.endpoints import DEFAULT_PORTS, Endpoints, Security
from ilf_client.stack.state import read_state, state_dir
from ilf_common.errors import InvalidArgumentError

if TYPE_CHECKING:
    from ilf_common.artifacts.store import ArtifactStore


def access(server: str | None) -> tuple[Endpoints, Security]:
    """Where the services are, and how to talk to them.

    The option, then the environment, then a running `ilf connect`, then what `ilf up` started here, then the default
    ports. Files that the environment names go before those of `ilf connect`.
    """
    security = Security.from_environment()
    connection = None if _named(server) else read_connection(state_dir())
    if connection is not None:
        return connection.endpoints, security if security != Security() else connection.security
    return endpoints(server), security


def endpoints(server: str | None) -> Endpoints:
    """As `access`, of the services on this machine."""
    if server:
        return Endpoints.at(server)
    state = None if _named(server) else read_state(state_dir())
    return state.endpoints if state is not None else Endpoints.from_environment()


def _named(server: str | None) -> bool:
    """Whether the option or the environment says where the services are."""
    names = ["ILF_SERVER", *(f"ILF_{service.upper()}_ADDRESS" for service in DEFAULT_PORTS)]
    return bool(server) or any(os.environ.get(name) for name in names)


def artifact_store(root: str | None, *, server: str | None = None) -> ArtifactStore:
    """The option, then `ILF_STORE`, then the store of what `ilf up` started here.

    Args:
        root: The option's value.
        server: A server elsewhere: then no local default is guessed.

    Raises:
        InvalidArgumentError: None of them names a store.
    """
    store = reachable_store(root, server=server)
    if store is None:
        raise InvalidArgumentError.of(
            "--store", "say which artifact store the services use (a folder, s3://… or gs://…), or set ILF_STORE"
        )
    return store


def reachable_store(root: str | None, *, server: str | None = None) -> ArtifactStore | None:
    """As `artifact_store`, but None where none is named."""
    from ilf_common.artifacts.store import ArtifactStore

    chosen = root or os.environ.get("ILF_STORE")
    if not chosen and not _named(server) and read_connection(state_dir()) is None:
        state = read_state(state_dir())
        chosen = state.store_root if state else None
    return ArtifactStore(chosen) if chosen else None
