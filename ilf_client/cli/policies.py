"""`ilf policies`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ilf_client.cli.options import Session, service_options
from ilf_client.cli.output import print_table
from ilf_client.humanize import since

if TYPE_CHECKING:
    from ilf_common.artifacts.manifest import Manifest
    from ilf_common.artifacts.store import ArtifactStore


@click.group()
def policies() -> None:
    """Versions of the policy, and the aliases that point at them."""


@policies.command("list")
@service_options
def list_policies(session: Session) -> None:
    """Models and versions that are served."""
    with session.client() as client:
        found = list(client.policies.list(timeout=session.timeout))
    session.show(
        found,
        lambda: print_table(
            ["name", "kind", "state", "aliases", "base", "loaded", "digest", "uri"],
            [
                [p.name, p.kind, p.state, ",".join(p.aliases), p.base_model, since(p.load_time), p.digest[:12], p.uri]
                for p in found
            ],
        ),
    )


@policies.command("show")
@click.argument("name")
@service_options
def show_policy(session: Session, name: str) -> None:
    """One version, by its name or an alias."""
    with session.client() as client:
        policy = client.policies.get(name, timeout=session.timeout)
    facts = {
        "name": policy.name,
        "kind": policy.kind.value,
        "state": policy.state.value,
        "uri": policy.uri,
        "base model": policy.base_model,
        "digest": policy.digest,
        "aliases": ", ".join(policy.aliases),
        "window": str(policy.max_model_len),
        "in flight": str(policy.running_requests),
        "failure": policy.failure,
    }
    session.show(policy, lambda: print_table(["field", "value"], [[k, v] for k, v in facts.items() if v]))


@policies.command("load")
@click.argument("name")
@click.argument("uri")
@click.option("--base-model", default="", help="For an adapter: the served model that it sits on.")
@click.option("--replace", is_flag=True, help="Swap the version that is served under this name.")
@service_options
def load_policy(session: Session, name: str, uri: str, base_model: str, replace: bool) -> None:
    """Serve the checkpoint at URI of the artifact store under NAME."""
    with session.client() as client:
        policy = client.policies.load(name, uri, base_model=base_model, replace=replace, timeout=session.timeout)
    session.show(policy, lambda: click.echo(f"{policy.name} is {policy.state.value} ({policy.digest[:12]})"))


@policies.command("unload")
@click.argument("name")
@service_options
def unload_policy(session: Session, name: str) -> None:
    """Take a version out of service once its requests have drained."""
    with session.client() as client:
        client.policies.unload(name, timeout=session.timeout)
    session.show({"name": name, "state": "unloaded"}, lambda: click.echo(f"{name} is unloaded"))


@policies.command("promote")
@click.argument("alias")
@click.argument("name")
@service_options
def promote_policy(session: Session, alias: str, name: str) -> None:
    """Point ALIAS (such as `production`) at the loaded version NAME."""
    with session.client() as client:
        moved = client.policies.promote(alias, name, timeout=session.timeout)
    before = f" (before: {moved.previous_policy})" if moved.previous_policy else ""
    session.show(moved, lambda: click.echo(f"{moved.alias} is now {moved.policy}{before}"))


@policies.command("rollback")
@click.argument("alias")
@service_options
def rollback_policy(session: Session, alias: str) -> None:
    """Point ALIAS back at its previous version."""
    with session.client() as client:
        moved = client.policies.rollback(alias, timeout=session.timeout)
    session.show(moved, lambda: click.echo(f"{moved.alias} is now {moved.policy}"))


@policies.command("pull")
@click.argument("source")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--store", metavar="ROOT", help="The artifact store. Default: ILF_STORE, that of `ilf up`, the server.")
@service_options
def pull_policy(session: Session, source: str, folder: Path, store: str | None) -> None:
    """Copy a checkpoint out of the store into FOLDER, every file verified.

    SOURCE is the name of a version, or the checkpoint's URI in the store. Where this machine does not reach the store,
    the server sends the files; what broke off goes on where it stopped: call it again.
    """
    from ilf_client.cli.addresses import reachable_store

    artifacts = reachable_store(store, server=session.server)
    uri, manifest = (
        _from_server(session, source, folder) if artifacts is None else _from_store(session, artifacts, source, folder)
    )
    session.show(
        {"uri": uri, "folder": str(folder), "digest": manifest.digest, "files": len(manifest.files)},
        lambda: click.echo(f"{len(manifest.files)} files of {uri} are in {folder} (digest {manifest.digest[:12]})"),
    )


def _from_store(session: Session, artifacts: ArtifactStore, source: str, folder: Path) -> tuple[str, Manifest]:
    from ilf_client.checkpoints import pull

    uri = source
    if not artifacts.has_manifest(artifacts.resolve(source, field="source")):
        with session.client() as client:
            uri = client.policies.get(source, timeout=session.timeout).uri
    return uri, pull(artifacts, uri, folder)


def _from_server(session: Session, source: str, folder: Path) -> tuple[str, Manifest]:
    from ilf_client.cli.progress import transfer_bar
    from ilf_common.errors import NotFoundError

    with session.client() as client, transfer_bar("fetching") as progress:
        try:
            return source, client.data.pull(source, folder, progress=progress, timeout=session.timeout)
        except NotFoundError as error:
            if error.reason != "CHECKPOINT_NOT_FOUND":
                raise
        uri = client.policies.get(source, timeout=session.timeout).uri
        return uri, client.data.pull(uri, folder, progress=progress, timeout=session.timeout)


@policies.command("push")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("uri")
@click.option("--store", metavar="ROOT", help="The artifact store. Default: ILF_STORE, then that of `ilf up`.")
@service_options
def push_policy(session: Session, folder: Path, uri: str, store: str | None) -> None:
    """Publish a local Hugging Face directory at URI of the store; serve it with `ilf policies load`."""
    from ilf_client.checkpoints import push
    from ilf_client.cli.addresses import artifact_store

    manifest = push(artifact_store(store), folder, uri)
    session.show(
        {"uri": uri, "digest": manifest.digest, "files": len(manifest.files)},
        lambda: click.echo(f"{uri} holds {len(manifest.files)} files (digest {manifest.digest[:12]})"),
    )
