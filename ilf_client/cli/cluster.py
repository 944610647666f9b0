"""`ilf connect`, and what `ilf doctor --cluster` shares with it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ilf_client.cli.options import Session, output_options
from ilf_client.cli.stack import state_option
from ilf_common.errors import FailedPreconditionError, IlfError

if TYPE_CHECKING:
    from ilf_client.cluster.ports import Cluster

F = TypeVar("F", bound=Callable[..., Any])


def cluster_options(command: F) -> F:
    """`--namespace`, `--context` and `--release`."""
    namespace = click.option("-n", "--namespace", help="Where the release is. Default: that of the context.")
    context = click.option("--context", help="Context of the kubeconfig. Default: the current one.")
    release = click.option("--release", help="The release, where the namespace has several.")
    return namespace(context(release(command)))


def open_cluster(namespace: str | None, context: str | None) -> Cluster:
    """The cluster of KUBECONFIG.

    Raises:
        FailedPreconditionError: reason PACKAGE_MISSING; the client was installed without its cluster part.
    """
    try:
        from ilf_client.cluster.api import KubernetesCluster
    except ImportError as error:
        raise FailedPreconditionError(
            f"{error.name} is not installed.", reason="PACKAGE_MISSING", metadata={"hint": "pip install 'ilf[cluster]'"}
        ) from error
    return KubernetesCluster(namespace, context)


@click.command()
@cluster_options
@click.option("--tls-secret", help="Secret with tls.crt, tls.key and ca.crt of a client. Default: the chart's.")
@click.option("--token-secret", help="Secret with the token. Default: the chart's.")
@state_option
@output_options
def connect(
    session: Session,
    namespace: str | None,
    context: str | None,
    release: str | None,
    tls_secret: str | None,
    token_secret: str | None,
    state_dir: Path,
) -> None:
    """Reach the services of a Kubernetes cluster from here, until Ctrl-C.

    Ports of this machine lead to the services through the Kubernetes API; certificates and token are fetched. While it
    runs, all other commands here use them. A connection whose pod goes is led to another one.

    Example: ilf connect -n ilf &  then: ilf run run.yaml
    """
    cluster = open_cluster(namespace, context)
    from ilf_client.cluster.connect import Bridge, SecretNames
    from ilf_client.cluster.release import find_release
    from ilf_client.connection import read_connection

    if read_connection(state_dir) is not None:
        raise FailedPreconditionError(
            f"Another `ilf connect` is running with {state_dir}; stop it, or take another --state-dir.",
            reason="ALREADY_CONNECTED",
        )
    found = find_release(cluster, release)
    bridge = Bridge(cluster, found, SecretNames(found, tls_secret, token_secret), state_dir, _tell)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    security = bridge.open()
    try:
        endpoints = bridge.endpoints
        facts = {"release": found.name, "endpoints": endpoints, "security": security}

        def for_people() -> None:
            click.echo(f"connected to the release {found.name} in {cluster.namespace}; Ctrl-C ends it")
            for name in found.services:
                click.echo(f"  {name:<13} {getattr(endpoints, name)}")

        session.show(facts, for_people)
        bridge.keep(stopping)
    finally:
        bridge.close()


def _tell(error: IlfError) -> None:
    click.echo(f"{click.style('Warning', fg='yellow')}: {error.message} [{error.reason}]", err=True)
