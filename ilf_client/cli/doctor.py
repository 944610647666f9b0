"""`ilf doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from ilf_client.cli.cluster import cluster_options, open_cluster
from ilf_client.cli.failures import FAILED
from ilf_client.cli.options import Session, output_options
from ilf_client.cli.stack import state_option

_STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command()
@click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="As for `ilf up`. Default: ilf.yaml."
)
@click.option("--cluster", is_flag=True, help="Look at the cluster of KUBECONFIG instead of this machine.")
@cluster_options
@state_option
@output_options
def doctor(
    session: Session,
    config: Path | None,
    cluster: bool,
    namespace: str | None,
    context: str | None,
    release: str | None,
    state_dir: Path,
) -> None:
    """Look at this machine, its packages, ports and services; exit code 1 when something must be mended.

    With --cluster: at a Kubernetes cluster, what it offers, and the release of the chart in it.
    """
    from ilf_client.diagnosis import Verdict, diagnose

    if cluster:
        opened = open_cluster(namespace, context)
        from ilf_client.cluster.checks import diagnose_cluster

        findings = diagnose_cluster(opened, release)
    else:
        findings = diagnose(config, state_dir)

    def for_people() -> None:
        for finding in findings:
            mark = click.style(f"{finding.verdict.value:<8}", fg=_STYLES[finding.verdict.value])
            click.echo(f"{mark} {finding.subject:<22} {finding.text}")
            if finding.mend:
                click.echo(f"{'':<31} -> {finding.mend}")

    session.show(findings, for_people)
    if any(finding.verdict is Verdict.PROBLEM for finding in findings):
        raise click.exceptions.Exit(FAILED)
