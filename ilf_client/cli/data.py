"""`ilf data`."""

from __future__ import annotations

from pathlib import Path

import click

from ilf_client.cli.options import Session, service_options
from ilf_client.cli.progress import transfer_bar


@click.group()
def data() -> None:
    """Datasets in the services' artifact store."""


@data.command("push")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", default="", help="Its name in the store. Default: that of the file.")
@service_options
def push_dataset(session: Session, file: Path, name: str) -> None:
    """Send a dataset FILE (.jsonl, .json, .parquet) and print its URI, which a run's dataset names.

    An upload that broke off goes on where it stopped: call it again.

    Example: ilf run run.yaml --set dataset.train_uri=$(ilf data push train.jsonl)
    """
    with session.client() as client, transfer_bar("sending") as progress:
        upload = client.data.push(file, name=name, progress=progress, timeout=session.timeout)
    session.show(upload, lambda: click.echo(upload.uri))
