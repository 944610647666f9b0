"""`ilf run`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from ilf_client.cli.options import Session, service_options
from ilf_client.models.specs import RunSpec


@click.command()
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY.KEY=VALUE", help="Override a value; VALUE is YAML.")
@click.option(
    "--preview", type=click.IntRange(min=1), metavar="N", help="Only N rows, to the ranking: see what it costs."
)
@click.option("--dry-run", is_flag=True, help="Print the resolved config and start nothing.")
@click.option("--name", default="", metavar="ID", help="Id of the run: lower-case letters, digits, dashes.")
@click.option(
    "--store",
    metavar="ROOT",
    help="Artifact store for local datasets. Default: ILF_STORE, then `ilf up`'s; else they are sent to the services.",
)
@click.option("--detach", is_flag=True, help="Start the run and return.")
@service_options
def run(
    session: Session,
    config: Path,
    overrides: Sequence[str],
    preview: int | None,
    dry_run: bool,
    name: str,
    store: str | None,
    detach: bool,
) -> None:
    """Run the loop as a YAML file says, and watch it. Ctrl-C leaves the run going.

    The keys of CONFIG are the fields of RunSpec. Dataset files and templates beside it are read here and sent along.

    Example: ilf run examples/summarization/run.yaml --set policy=tiny --preview 20
    """
    from ilf_client.cli.addresses import reachable_store
    from ilf_client.cli.watching import end, follow
    from ilf_client.config import apply_overrides, build, plain, read_yaml
    from ilf_client.publishing import count_rows, find_local_datasets, publish_datasets, push_datasets, with_keys

    spec = build(RunSpec, apply_overrides(read_yaml(config), overrides), folder=config.parent)
    if preview is not None:
        spec = replace(spec, preview_rows=preview)
    datasets = find_local_datasets(spec, config.parent)
    if dry_run:
        import yaml

        resolved = plain(with_keys(spec, datasets))
        session.show(
            resolved, lambda: click.echo(yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True), nl=False)
        )
        for dataset in datasets:
            click.echo(f"would publish {dataset.path} as {dataset.key}", err=True)
        return
    artifacts = reachable_store(store, server=session.server)
    with session.client() as client:
        if artifacts is not None:
            spec = publish_datasets(spec, datasets, artifacts)
        else:
            spec = push_datasets(spec, datasets, client)
        created = client.runs.create(spec, run_id=name, timeout=session.timeout)
        if detach:
            bare = created.name.removeprefix("runs/")
            session.show(created, lambda: click.echo(f"{created.name} is {created.state.value}: ilf runs watch {bare}"))
            return
        ended = follow(session, client, created.name)
        end(session, ended)
        if preview is not None:
            from ilf_client.cli.preview import show_preview

            rows = next((count_rows(d.path) for d in datasets if d.field == "train_uri"), None)
            show_preview(session, client, ended, rows)
