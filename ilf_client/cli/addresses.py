"""Where the services and the artifact store are, as far as this machine knows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ilf_client.endpoints import DEFAULT_PORTS, Endpoints
from ilf_client.stack.state import read_state, state_dir
from ilf_common.errors import InvalidArgumentError

if TYPE_CHECKING:
    from ilf_common.artifacts.store import ArtifactStore


def endpoints(server: str | None) -> Endpoints:
    """The option, then the environment, then what `ilf up` started here, then the default ports."""
    if server:
        return Endpoints.at(server)
    named = ["ILF_SERVER", *(f"ILF_{service.upper()}_ADDRESS" for service in DEFAULT_PORTS)]
    if not any(os.environ.get(name) for name in named):
        state = read_state(state_dir())
        if state is not None:
            return state.endpoints
    return Endpoints.from_environment()


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
    if not chosen and not server and not os.environ.get("ILF_SERVER"):
        state = read_state(state_dir())
        chosen = state.store_root if state else None
    return ArtifactStore(chosen) if chosen else None
